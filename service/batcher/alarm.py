"""One timer for the earliest of many times."""

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls `ring` on the event loop, once for each time that it is set to. Times are on `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        self.clock, self.ring = clock, ring
        self.at_s = math.inf
        """When it rings next; infinity for never."""
        self.timer: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        """Ring then, and not at the time before."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.at_s = None, at_s
        if at_s < math.inf:
            self.timer = asyncio.get_running_loop().call_later(at_s - self.clock(), self._over)

    def _over(self) -> None:
        self.at_s = math.inf
        self.ring()
