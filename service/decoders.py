"""The threads that prepare recordings, and how long a newcomer would wait for one."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from service.offload import offload
from service.priority import stand_back

T = TypeVar("T")
REMEMBERED: Final = 15
"""Recordings whose median tells how long the next one takes; a mean would follow a single long one for minutes."""


class Decoders:
    """`count` threads. `observer` is told of each recording how many seconds it kept one of them."""

    def __init__(self, count: int, observer: Callable[[float], None] = lambda _: None) -> None:
        self.count = count
        self.observer = observer
        self.executor = ThreadPoolExecutor(count, "decode", initializer=stand_back)
        self.unfinished = 0
        self.recent_s: deque[float] = deque(maxlen=REMEMBERED)

    async def run(self, work: Callable[[], T], *, stop: Callable[[], None]) -> tuple[T, float]:
        """The result of `work`, and the seconds that it waited for a thread; `stop` as `offload` has it."""
        asked_s = time.monotonic()
        begun_s = asked_s

        def timed() -> T:
            nonlocal begun_s
            begun_s = time.monotonic()
            try:
                return work()
            finally:
                took_s = time.monotonic() - begun_s
                self.recent_s.append(took_s)
                self.observer(took_s)

        self.unfinished += 1
        try:
            return await offload(self.executor, timed, stop=stop), begun_s - asked_s
        finally:
            self.unfinished -= 1

    def predicted_wait_s(self) -> float:
        """How long a recording that came now would wait, if each took as long as the usual one."""
        ahead = max(0, self.unfinished + 1 - self.count)
        return ahead * statistics.median(self.recent_s or [0.0]) / self.count

    def close(self) -> None:
        self.executor.shutdown()
