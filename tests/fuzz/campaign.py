"""A run of many inputs: each is drawn, sent and judged; what fails is kept, and everything is counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from .exchange import Answer, exchange
from .inputs import Source
from .oracle import CONTAINED, Verdict, judge
from .service import DEADLINE_S, MARGIN_S, STREAM_S, Service
from .wire import Input, keep

MOST_KEPT: Final = 20
"""Inputs that are kept for each kind of finding."""


class Campaign:
    """Inputs against one service. Its methods may be called by several threads."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.lock = threading.Lock()
        self.kinds, self.outcomes, self.findings = Counter[str](), Counter[str](), Counter[str]()
        self.slowest_s = 0.0
        self.busy_s = 0.0
        """How long inputs were sent."""

    @property
    def count(self) -> int:
        """How many inputs were sent."""
        return self.kinds.total()

    def send(self, given: Input, name: str) -> Sequence[str]:
        """Send and judge one input; what was wrong with its answer."""
        answer, verdict = tried(self.service, given)
        contained = [verdict.outcome] if any(f"({cause})" in verdict.outcome for cause in CONTAINED.values()) else []
        with self.lock:
            self.kinds[given.kind] += 1
            self.outcomes[f"{given.kind}: {verdict.outcome}"] += 1
            self.findings.update(verdict.findings)
            self.slowest_s = max(self.slowest_s, answer.took_s)
            is_new = self.outcomes[f"{given.kind}: {verdict.outcome}"] <= MOST_KEPT
        if verdict.findings or (contained and is_new):
            folder = self.folder / ("found" if verdict.findings else "contained")
            keep(folder, name, given, answer.received[:10_000], verdict.findings or contained)
        return verdict.findings

    def run(self, source: Source, numbers: Iterable[int], workers: int, seconds: float) -> None:
        """Send the inputs of these numbers, for at most `seconds`, and only while the service lives."""
        until_s = time.monotonic() + seconds
        left = iter(numbers)

        def work() -> None:
            while time.monotonic() < until_s and self.service.process.poll() is None:
                with self.lock:
                    number = next(left, None)
                if number is None:
                    return
                given = source.draw(number)
                self.send(given, f"{given.kind}-{source.seed}-{number}")

        began_s = time.monotonic()
        in_parallel(work, workers)
        self.busy_s += time.monotonic() - began_s

    def problems(self) -> list[str]:
        """All that was found, also in the log and of the process itself."""
        ended = self.service.process.poll()
        dead = [] if ended is None else [f"the service ended with exit code {ended}"]
        told = [f"{finding} ({times} times)" for finding, times in self.findings.most_common()]
        return [*dead, *told, *self.service.complaints()]


def tried(service: Service, given: Input) -> tuple[Answer, Verdict]:
    """Send an input, and judge what comes back."""
    within_s = STREAM_S if given.kind == "stream" else DEADLINE_S + MARGIN_S
    answer = exchange(service.port, given, within_s)
    return answer, judge(given, answer, within_s)


def in_parallel(work: Callable[[], None], workers: int) -> None:
    """Run `work` in so many threads; an exception of one of them is raised here."""
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
