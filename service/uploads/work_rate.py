"""What an upload will cost: seconds of work for each of its bytes, learned from the requests that were answered."""

from collections.abc import Callable
from typing import Final, NamedTuple

DECAY: Final = 0.95
"""What older requests count for with each newer one: about the last twenty tell."""


class Kind(NamedTuple):
    """Whose work is alike, and where it waits; there are few."""

    name: str
    queue_key: str
    """Of the graph that computes it."""
    decodes: bool
    """Whether it is a recording: tensors wait for no decoder."""


class Tally(NamedTuple):
    """Decayed sums over the requests of one kind, and the most that one of them took."""

    seconds: float
    size: float
    most_s: float


class WorkRate:
    """`worked_s()` tells for how many seconds the device and the decoders have worked since the start.

    Requests in one batch each see all of its time, and those that are decoded side by side have a core each. So what
    they saw is scaled to what was worked. Of a recording that has to be told as it is learned: all of it, once it is
    over.
    """

    def __init__(self, worked_s: Callable[[], float]) -> None:
        self.worked_s = worked_s
        self.tallies: dict[str, Tally] = {}
        self.counted_s = worked_s()
        self.worked, self.seen = 0.0, 0.0

    def learn(self, kind: str, size: int, seconds: float) -> None:
        """A request of `kind` was answered: it had `size` bytes, and saw `seconds` of decoding and computing."""
        now_s = self.worked_s()
        self.worked = DECAY * self.worked + now_s - self.counted_s
        self.seen = DECAY * self.seen + seconds
        self.counted_s = now_s
        old = self.tallies.get(kind, Tally(0.0, 0.0, 0.0))
        most_s = max(seconds, DECAY * old.most_s)
        self.tallies[kind] = Tally(DECAY * old.seconds + seconds, DECAY * old.size + size, most_s)

    def own_s(self, kind: str, size: int) -> float:
        """Seconds of decoding and computing that an upload of `kind` will see; 0 while nothing is known of its kind.

        Never more than the most that one has seen lately: what is large is often finer, not longer.
        """
        tally = self.tallies.get(kind)
        if tally is None or tally.size <= 0:
            return 0.0
        return min(size * tally.seconds / tally.size, tally.most_s)

    def predict(self, kind: str, size: int) -> float:
        """Seconds for which all decoders and devices together will work for it; 0 while nothing is known."""
        return self.own_s(kind, size) * min(1.0, self.worked / self.seen) if self.seen > 0 else 0.0
