"""Who may use a core to decode: a short recording does not wait until a long one is over.

Nobody knows beforehand how long one takes. So who has used least goes first, in steps that double (a multilevel
feedback queue; Kleinrock, Queueing Systems II, 1976, section 4.7): what a recording has had already is the best guess
of what it still needs.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.threads.channel import Abandoned

FIRST_STEP_S: Final = 0.5
"""As much as a recording of ten seconds takes, in one go."""
STEPS: Final = 6
"""Those who have used 16 s or more are all alike."""
TURN_S: Final = 0.1
"""A core is kept at least so long, and given up only between two packets."""
TOLD_S: Final = 1.0
"""A recording that keeps its core is told of so often."""


class Cores:
    """`count` of them, for the recordings that are open. May be used from any thread.

    Every second core that becomes free goes to who came first, so that nobody can be starved by newcomers. `observer`
    is told, by the recordings' threads, for how many more seconds one has kept a core: when it leaves it, and between
    two packets.
    """

    def __init__(self, count: int, observer: Callable[[float], None]) -> None:
        self.free = count
        self.observer = observer
        self.lock = threading.Lock()
        self.waiting: list[Share] = []
        self.came = 0
        self.next_is_first_come = False

    def share(self) -> "Share":
        """The claim of a recording that has come."""
        with self.lock:
            self.came += 1
            return Share(self, self.came)

    def hand_out(self) -> None:
        """Give free cores to those who wait, while the lock is held."""
        while self.free and self.waiting:
            if self.next_is_first_come:
                chosen = min(self.waiting, key=lambda share: share.number)
            else:
                chosen = min(self.waiting, key=lambda share: (share.step, share.number))
            self.next_is_first_come = not self.next_is_first_come
            self.waiting.remove(chosen)
            self.free -= 1
            chosen.since_s = time.monotonic()
            chosen.changed.notify()


class Share:
    """One recording's use of the cores: that of its thread, but for `stop`. It begins without one."""

    def __init__(self, cores: Cores, number: int) -> None:
        self.cores, self.number = cores, number
        self.changed = threading.Condition(cores.lock)
        self.since_s: float | None = None
        """When it got the core that it has."""
        self.used_s = 0.0
        """Of the cores that it had before."""
        self.told_s = 0.0
        """Of its use, what the observer knows."""
        self.waited_s = 0.0
        """For a core."""
        self.stopped = False

    @property
    def step(self) -> int:
        """How much it has used: 0 for less than `FIRST_STEP_S`, then one more each time that this has doubled."""
        return min(STEPS, int(self.use_s() / FIRST_STEP_S).bit_length())

    def held_s(self) -> float:
        return 0.0 if self.since_s is None else time.monotonic() - self.since_s

    def use_s(self) -> float:
        """Of the core that it has, and of those before."""
        return self.used_s + self.held_s()

    def clock(self) -> float:
        """Seconds that go by, but for those in which this waits for a core."""
        return time.monotonic() - self.waited_s

    def take(self) -> None:
        """Wait for a core. Raises Abandoned once it is stopped."""
        asked_s = time.monotonic()
        with self.cores.lock:
            self.cores.waiting.append(self)
            self.cores.hand_out()
            self.changed.wait_for(lambda: self.since_s is not None or self.stopped)
            self.waited_s += time.monotonic() - asked_s
            if self.since_s is None:
                self.cores.waiting.remove(self)
                raise Abandoned

    def leave(self) -> None:
        """Give the core back, if it has one."""
        with self.cores.lock:
            if self.since_s is None:
                return
            self.used_s, self.since_s = self.use_s(), None
            self.cores.free += 1
            self.cores.hand_out()
        self.tell()

    def tick(self) -> None:
        """Between two packets: let those go first who have the better claim. Raises Abandoned as `take`."""
        if self.cores.waiting and self.held_s() >= TURN_S and self.stands_behind():
            self.leave()
            self.take()
        elif self.use_s() >= self.told_s + TOLD_S:
            self.tell()

    def tell(self) -> None:
        more_s = self.use_s() - self.told_s
        self.told_s += more_s
        self.cores.observer(more_s)

    def stands_behind(self) -> bool:
        with self.cores.lock:
            return any((other.step, other.number) < (self.step, self.number) for other in self.cores.waiting)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Leave the core to others for as long as the recording waits for something else."""
        self.leave()
        yield
        self.take()

    def stop(self) -> None:
        """Nobody waits any more for what this decodes."""
        with self.cores.lock:
            self.stopped = True
            self.changed.notify()
