"""The heap of deadlines beside a list that is sorted every time."""

import math
import random
from dataclasses import dataclass
from weakref import ref

from service.batcher.deadlines import TOLERATED, Deadlines


@dataclass(eq=False)
class Asked:
    deadline_s: float
    over: bool = False

    def done(self) -> bool:
        return self.over


def test_the_heap_says_what_a_sorted_list_would():
    rng = random.Random(0)
    deadlines, everybody = Deadlines[Asked](), []
    for _ in range(2000):
        request = Asked(rng.choice([math.inf, rng.uniform(0, 100)]))
        deadlines.add(request)
        everybody.append(request)
        rng.choice(everybody).over = True
        living = sorted(one.deadline_s for one in everybody if not one.over)
        limit_s = rng.uniform(0, 100)
        assert deadlines.earliest_s() == (living or [math.inf])[0]
        assert [one.deadline_s for one in deadlines.until(limit_s)] == [s for s in living if s <= limit_s]


def test_those_who_are_done_are_not_kept_behind_one_who_waits():
    deadlines = Deadlines[Asked]()
    waits = Asked(0.0)
    deadlines.add(waits)
    for n in range(10_000):
        deadlines.add(Asked(1.0 + n, over=True))

    assert len(deadlines.heap) <= TOLERATED + 1
    assert deadlines.until(math.inf) == [waits]


def test_what_one_who_is_done_asked_for_is_given_up_behind_one_who_waits():
    deadlines, waits, leaves = Deadlines[Asked](), Asked(0.0), Asked(1.0)
    deadlines.add(waits)
    deadlines.add(leaves)
    held = ref(leaves)
    del leaves

    assert held() is None
    assert deadlines.until(1.0) == [waits]
