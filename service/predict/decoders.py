"""The threads that prepare recordings, and how long a newcomer would wait for the others."""

import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.predict.cores import FIRST_STEP_S, Cores, Share
from service.threads.offload import offload
from service.threads.priority import stand_back

T = TypeVar("T")
REMEMBERED: Final = 15
"""Recordings whose median tells how long one takes of which nothing else is known; a mean would follow a single long
one for minutes. Those that failed, or were given up, count only where they took more than that: what they would have
taken, nobody knows."""
OPEN_PER_CORE: Final = 4
"""Recordings that are open at once: each holds a process or two and its pictures, and most of them wait for a core."""


class Decoders:
    """`count` cores decode, and four times as many recordings may be open. `observer` as `Cores` has it."""

    def __init__(self, count: int, observer: Callable[[float], None] = lambda _: None) -> None:
        self.count = count
        self.cores = Cores(count, observer)
        self.places = OPEN_PER_CORE * count
        self.executor = ThreadPoolExecutor(self.places, "decode", initializer=stand_back)
        self.unfinished: dict[Share, float | None] = {}
        """Those that have come, each with what it is predicted to take on one core; None where nothing is known."""
        self.worked_s = 0.0
        """Of all cores together, for the recordings that are over."""
        self.recent_s: deque[float] = deque(maxlen=REMEMBERED)

    async def run(
        self, work: Callable[[Share], T], *, stop: Callable[[], None], own_s: float | None = None
    ) -> tuple[T, float]:
        """The result of `work`, which begins with a core, and the seconds that it waited; `stop` as `offload` has it.

        `work` calls its share's `tick` between two packets. `own_s` as `predicted_wait_s` has it.
        """
        share = self.cores.share()
        asked_s = share.clock()
        opened_s = asked_s

        def with_a_core() -> T:
            nonlocal opened_s
            opened_s = share.clock()
            share.take()
            try:
                return work(share)
            finally:
                share.leave()

        def stop_both() -> None:
            stop()
            share.stop()

        self.unfinished[share] = own_s
        given_up = True
        try:
            result = await offload(self.executor, with_a_core, stop=stop_both)
            given_up = False
            return result, opened_s - asked_s + share.waited_s
        finally:
            del self.unfinished[share]
            self.worked_s += share.used_s / self.count
            if not given_up or share.used_s > self.usual_s():
                self.recent_s.append(share.used_s)

    def usual_s(self) -> float:
        """For how long a recording keeps a core, of late."""
        return statistics.median(self.recent_s or [0.0])

    def predicted_wait_s(self, own_s: float | None = None) -> float:
        """For how long the others would keep a newcomer from a core, if each took what is predicted, or used till now.

        `own_s` is what it takes itself, on one core; None where that is not known, and it is as the usual one. Since
        who has used least goes first, no other delays it by much more than what it takes itself once it is open, and
        those who have to end before that are the shortest.
        """
        usual_s = self.usual_s()
        others_s = sorted(
            max(usual_s if known_s is None else known_s, share.told_s) for share, known_s in self.unfinished.items()
        )
        before_it_opens = max(0, len(others_s) + 1 - self.places)
        beside_it = others_s[before_it_opens : max(before_it_opens, len(others_s) + 1 - self.count)]
        most_s = max(usual_s if own_s is None else own_s, FIRST_STEP_S)
        return (sum(others_s[:before_it_opens]) + sum(min(each_s, most_s) for each_s in beside_it)) / self.count

    def close(self) -> None:
        self.executor.shutdown()
