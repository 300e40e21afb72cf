"""Shadows: a sample of the windows that a bundle answered runs on another bundle too, and the difference is measured.

Nobody waits for a shadow and nobody sees it. It computes in one thread that the operating system favours least, begins
only while no window waits for the device, and what goes wrong with it is counted.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.manifest import GraphSpec, Manifest, output_names
from models.outputs import label_probabilities
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.runtime.device import Array, BuildItem
from service.telemetry.metrics import Telemetry
from service.threads.offload import ended, offload
from service.threads.priority import SPARE_TIME, stand_back

MAX_PENDING: Final = 16
"""Windows that are kept for the shadow; each is a copy of about 0.4 MB."""

logger = logging.getLogger("pkdot")

Outcome = Literal["compared", "skipped", "failed"]


@dataclass(frozen=True)
class Pair:
    """A window, what it was answered, and who shall be compared."""

    shadow: LoadedBundle
    manifest: Manifest
    graph: GraphSpec
    window: Mapping[str, Array]
    answer: Array


class Shadow:
    """Runs between `start` and `close`. `draw` gives a number in [0, 1): below `share` a window is in the sample."""

    def __init__(
        self,
        share: float,
        telemetry: Telemetry,
        queue_items: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.share, self.telemetry, self.queue_items, self.draw = share, telemetry, queue_items, draw
        self.shadows: dict[tuple[str, str], LoadedBundle] = {}
        """By name and version of the bundle that each stands beside."""
        self.pending: deque[Pair] = deque()
        self.wake = asyncio.Event()
        self.complained = False

    def start(self) -> None:
        """Begin to compare."""
        self.thread = ThreadPoolExecutor(1, "shadow", initializer=partial(stand_back, SPARE_TIME))
        self.worker = asyncio.create_task(self.work(), name="shadow")

    async def close(self) -> None:
        """Give up what is pending."""
        self.worker.cancel()
        await ended(self.worker)
        self.thread.shutdown()

    def follow(self, shelf: BundleShelf) -> None:
        """Take this shelf's shadows, and forget what was measured with others."""
        standing = {loaded.name: loaded for loaded in shelf.bundles}
        following = {standing[shadow.name].identity: shadow for shadow in shelf.shadows}
        for (name, version), shadow in self.shadows.items():
            if following.get((name, version)) is not shadow:
                self.telemetry.forget_shadow(name)
        self.shadows, self.complained = following, False
        self.pending = deque(pair for pair in self.pending if self.follows(pair.shadow))

    def consider(
        self, bundle: LoadedBundle, graph: GraphSpec, items: Sequence[BuildItem], outputs: Iterable[Array]
    ) -> None:
        """Take a sample of the windows that `graph` of `bundle` has just answered with these rows. Raises nothing."""
        shadow = self.shadows.get(bundle.identity)
        if shadow is None:
            return
        for build, answer in zip(items, outputs, strict=True):
            if self.draw() >= self.share or not np.isfinite(answer).all():
                continue
            if len(self.pending) >= MAX_PENDING or self.queue_items() > 0:
                self.count(shadow, "skipped")
                continue
            try:
                # A copy, since an item may be a view of its request's upload, or of a batch of hundreds.
                window = {modality: np.array(array)[None] for modality, array in build().items()}
            except Exception:
                self.failed(shadow)
                continue
            self.pending.append(Pair(shadow, bundle.bundle.manifest, graph, window, np.array(answer)))
            self.wake.set()

    async def work(self) -> None:
        """Compare what is pending, one window after another."""
        while True:
            await self.wake.wait()
            while self.pending:
                await self.compare(self.pending.popleft())  # a call, so that nothing here keeps an unloaded bundle
            self.wake.clear()

    async def compare(self, pair: Pair) -> None:
        """Measure one window, unless one of a request is waiting."""
        if self.queue_items() > 0:
            self.count(pair.shadow, "skipped")
            return
        try:
            found = await offload(self.thread, partial(differences, pair))
        except Exception:
            self.failed(pair.shadow)
            return
        self.count(pair.shadow, "compared")
        if self.follows(pair.shadow):
            for output, difference in found.items():
                self.telemetry.shadow_difference.labels(pair.shadow.name, output).observe(difference)

    def failed(self, shadow: LoadedBundle) -> None:
        """Count it; the first one is also explained, and a failure that repeats itself does not fill the log."""
        self.count(shadow, "failed")
        if not self.complained:
            self.complained = True
            logger.warning("shadow %s %s failed; its later failures are only counted", *shadow.identity, exc_info=True)

    def count(self, shadow: LoadedBundle, outcome: Outcome) -> None:
        """Nothing is counted for a shadow that was unloaded meanwhile: its series have ended."""
        if self.follows(shadow):
            self.telemetry.shadow_windows.labels(shadow.name, outcome).inc()

    def follows(self, shadow: LoadedBundle) -> bool:
        return any(shadow is current for current in self.shadows.values())


def differences(pair: Pair) -> dict[str, float]:
    """|answer - the shadow's| by output; ValueError where the shadow's is not finite. Blocks."""
    graph = next(graph for graph in pair.shadow.bundle.manifest.graphs if set(graph.available) == set(pair.window))
    other = pair.shadow.runners[frozenset(graph.available)].run(pair.window)[0]
    if not np.isfinite(other).all():
        raise ValueError("the shadow's output is not finite")
    ours = readings(pair.manifest, pair.graph, pair.answer)
    theirs = readings(pair.shadow.bundle.manifest, graph, other)
    return {output: abs(ours[output] - theirs[output]) for output in ours}


def readings(manifest: Manifest, graph: GraphSpec, row: NDArray[np.generic]) -> dict[str, float]:
    """One window's output (C,) as the numbers that are compared.

    Values as they are; pain as the mean index of its levels; a classification as the probability of each class.
    """
    if manifest.task == "pain" or manifest.task == "classification":
        probabilities = label_probabilities(manifest.task, row[None], graph.calibration.temperature)[0]
        if manifest.task == "classification":
            return dict(zip(manifest.levels, probabilities.tolist(), strict=True))
        return {"pain": float(probabilities @ np.arange(len(probabilities)))}
    names = output_names(manifest.task, manifest.values)
    return dict(zip(names, np.asarray(row, np.float64).tolist(), strict=True))
