"""How fast devices drain the queue: what warm-up measured of each graph, corrected by what its batches really take."""

from typing import Final, NamedTuple

from service.runtime.warm_up import BatchTime, WarmUp

DECAY: Final = 0.9
"""What a batch's weight shrinks to with each later batch: about the last ten count."""
FASTEST: Final = 0.01
"""No batch is believed to be faster than this part of what warm-up measured."""
UNIT: Final = WarmUp(0.0, (BatchTime(1, 1.0),))
"""Stands for a graph that was not measured: a second an item, to be corrected by its first batch."""


class Tally(NamedTuple):
    """Decayed sums over batches."""

    seconds: float
    expected_s: float


class DrainRate:
    """Long batches weigh more than short ones, since they are what a full queue meets."""

    def __init__(self) -> None:
        self.measured: dict[str, WarmUp] = {}
        self.tallies: dict[str, Tally] = {}
        self.slowdowns: dict[str, float] = {}
        self.per_item_s: dict[str, float] = {}
        """What `slowdown` and `seconds_per_item` say of each graph that is known: asked more often than it changes."""

    def expect(self, key: str, warm_up: WarmUp) -> None:
        """A first estimate; kept out where batches were already seen, or nothing was measured."""
        if warm_up.times and key not in self.tallies:
            self.measured[key] = warm_up
            self.tallies[key] = Tally(warm_up.seconds_per_item, warm_up.seconds_per_item)
            self.per_item_s[key] = warm_up.seconds_per_item

    def observe(self, key: str, items: int, seconds: float) -> None:
        """Take one finished batch into account."""
        old = self.tallies.get(key, Tally(0.0, 0.0))
        measured = self.measured.get(key, UNIT)
        new = Tally(DECAY * old.seconds + seconds, DECAY * old.expected_s + measured.batch_s(items))
        self.tallies[key], self.slowdowns[key] = new, max(FASTEST, new.seconds / new.expected_s)
        self.per_item_s[key] = measured.seconds_per_item * self.slowdowns[key]

    def slowdown(self, key: str) -> float:
        """What the graph's batches take now, over what was measured; 1 where nothing was seen yet."""
        return self.slowdowns.get(key, 1.0)

    def at_best_s(self, key: str, items: int, *, lanes: int, together: int) -> float:
        """How long items take that find `lanes` free, a run of theirs being divided among `together` of these.

        No slower than warm-up measured: what was slow since then may be over.
        """
        batch_s = self.batch_s(key, min(items, self.useful_batch(key)))
        longest_s = max(batch_s / together, items * self.seconds_per_item(key) / lanes)
        return longest_s / max(1.0, self.slowdown(key))

    def useful_batch(self, key: str) -> int:
        """The largest batch that gains anything; 1 where nothing was measured."""
        return self.measured.get(key, UNIT).useful_batch

    def batch_s(self, key: str, items: int) -> float:
        """How long a batch of so many items takes; as `seconds_per_item` where the graph is unknown."""
        if key not in self.tallies:
            return items * self.seconds_per_item(key)
        return self.measured.get(key, UNIT).batch_s(items) * self.slowdown(key)

    def seconds_per_item(self, key: str) -> float:
        """In useful batches; that of the slowest graph where this one is unknown, and 0 where nothing is known.

        >>> rate = DrainRate()
        >>> rate.observe("face", 4, 2.0)
        >>> rate.seconds_per_item("face"), rate.seconds_per_item("voice")
        (0.5, 0.5)
        """
        known = self.per_item_s.get(key)
        return max(self.per_item_s.values(), default=0.0) if known is None else known
