"""How fast the device drains the queue: a moving estimate of seconds per item, for each graph."""

from typing import Final, NamedTuple

DECAY: Final = 0.9
"""What a batch's weight shrinks to with each later batch: about the last ten count."""


class Tally(NamedTuple):
    """Decayed sums over batches."""

    seconds: float
    items: float


class DrainRate:
    """Large batches weigh more than small ones, since they are what a full queue meets."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}

    def expect(self, key: str, seconds_per_item: float) -> None:
        """A first estimate, from warm-up; kept out where batches were already seen."""
        if seconds_per_item > 0:
            self.tallies.setdefault(key, Tally(seconds_per_item, 1.0))

    def observe(self, key: str, items: int, seconds: float) -> None:
        """Take one finished batch into account."""
        old = self.tallies.get(key, Tally(0.0, 0.0))
        self.tallies[key] = Tally(DECAY * old.seconds + seconds, DECAY * old.items + items)

    def seconds_per_item(self, key: str) -> float:
        """The graph's estimate; that of the slowest graph where it is unknown, and 0 where nothing is known.

        >>> rate = DrainRate()
        >>> rate.observe("face", 4, 2.0)
        >>> rate.seconds_per_item("face"), rate.seconds_per_item("voice")
        (0.5, 0.5)
        """
        known = [self.tallies[key]] if key in self.tallies else self.tallies.values()
        return max((tally.seconds / tally.items for tally in known), default=0.0)
