"""Says in the log why windows fail on a device: a caller learns only that they do."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from service.batcher.batch import BatchReport
from service.bundles.shelf import LoadedBundle

EVERY_S: Final = 60.0
MAX_CAUSE_CHARS: Final = 500

logger = logging.getLogger("pkdot")


class FailureLog:
    """A line for the first failure of each graph, and for later ones one in `EVERY_S`: no caller can flood the log.

    `loaded()` gives the bundles whose graphs have names.
    """

    def __init__(
        self, loaded: Callable[[], Iterable[LoadedBundle]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.loaded, self.clock = loaded, clock
        self.said_s: dict[str, float] = {}
        self.windows = Counter[str]()
        """That failed since the last line; both by the key of their graph."""

    def observe(self, report: BatchReport) -> None:
        """Take a finished batch into account. One that was ended early has no failures of its own."""
        if report.outcome != "failed":
            return
        key, now_s = report.runner_key, self.clock()
        self.windows[key] += report.failed
        if now_s - self.said_s.get(key, -math.inf) < EVERY_S:
            return
        self.said_s[key] = now_s
        logger.warning(
            "failed windows: %d of %s, on %s: %s",
            self.windows.pop(key),
            graph_name(self.loaded(), key),
            report.place,
            told(report.errors[-1]),
        )


def told(error: BaseException) -> str:
    """What the log may know of it: onnxruntime speaks of nodes and shapes, while others may quote what was sent.

    >>> told(RuntimeError("CUDA failure 719")), told(ValueError("your name is Ann"))
    ('RuntimeError: CUDA failure 719', 'ValueError')
    """
    kind = type(error)
    by_onnxruntime = kind.__module__.startswith("onnxruntime.") or kind is RuntimeError  # as pybind11 names C++'s own
    return f"{kind.__name__}: {error}"[:MAX_CAUSE_CHARS] if by_onnxruntime else kind.__name__


def graph_name(bundles: Iterable[LoadedBundle], key: str) -> str:
    """The graph's file and bundle; its key alone where its bundle was unloaded meanwhile."""
    for loaded in bundles:
        for graph in loaded.bundle.manifest.graphs:
            if loaded.runners[frozenset(graph.available)].key == key:
                return f"{graph.file} of bundle {loaded.name} {loaded.bundle.version}"
    return f"graph {key}"
