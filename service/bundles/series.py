"""The metrics' series of loaded bundles: they end when the last request has let go of its bundle."""

import asyncio
import contextlib
import weakref
from collections.abc import Mapping
from functools import partial

import numpy as np

from models.manifest import Moments
from service.batcher.batcher import BatchReport
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.runtime.device import Array
from service.telemetry.metrics import Telemetry

Identity = tuple[str, str]
"""A bundle's name and version."""


class BundleSeries:
    """Follows what is loaded. Use it from one event loop."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.loaded: tuple[LoadedBundle, ...] = ()
        self.owners: dict[str, Identity] = {}
        """By the runner's key: the first bundle that has the graph."""
        self.followed: set[Identity] = set()
        """Whose series have not ended."""

    def follow(self, shelf: BundleShelf) -> None:
        """Begin the series of this shelf's bundles, and end those of others as soon as nobody holds them."""
        kept = {id(loaded) for loaded in shelf.everything()}
        loop = asyncio.get_running_loop()
        for loaded in self.loaded:
            if id(loaded) not in kept:
                weakref.finalize(loaded, self.unloaded, loop, loaded.identity).atexit = False
        self.loaded = shelf.everything()
        self.followed |= {loaded.identity for loaded in self.loaded}
        for loaded in reversed(self.loaded):
            self.owners |= {runner.key: loaded.identity for runner in loaded.runners.values()}
            self.watch_hallucinations(loaded)
            self.telemetry.bundle_info.labels(*loaded.identity).set(1)
        for loaded in shelf.answering():
            self.telemetry.bundle_answers(*loaded.identity)

    def watch_hallucinations(self, loaded: LoadedBundle) -> None:
        """Measure how unusual what its graphs hallucinate is, where the bundle tells what is usual."""
        for graph in loaded.bundle.manifest.graphs:
            runner = loaded.runners[frozenset(graph.available)]
            measured = partial(self.hallucinated, loaded.identity, graph.uncertainty_reference)
            runner.watch_all(measured if graph.uncertainty_reference else None)

    def hallucinated(self, owner: Identity, usual: Mapping[str, Moments], expected: Mapping[str, Array]) -> None:
        """Count the windows of a run; called on a device's thread. A shadow may have the same graph as its bundle."""
        if owner in self.followed:
            for modality, moments in usual.items():
                self.telemetry.hallucinated(owner, modality, distances(expected[modality], moments))

    def unloaded(self, loop: asyncio.AbstractEventLoop, identity: Identity) -> None:
        """Called by the garbage collector, wherever that runs: in a thread, or while a metric is locked."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the metrics with it
            loop.call_soon_threadsafe(self.end, identity)

    def end(self, identity: Identity) -> None:
        """Remove the series of a bundle, unless one like it was loaded meanwhile."""
        if identity in {loaded.identity for loaded in self.loaded}:
            return
        self.owners = {key: owner for key, owner in self.owners.items() if owner != identity}
        self.followed.discard(identity)
        self.telemetry.forget(*identity)

    def observe(self, report: BatchReport) -> None:
        """Count a batch; one that ends after its bundle was unloaded has no series to be counted in."""
        owner = self.owners.get(report.runner_key)
        if owner is not None:
            self.telemetry.batch_ended(owner, report.outcome, report.size, report.busy_s)


def distances(expected: Array, usual: Moments) -> list[float]:
    """How many standard deviations each expected error (batch,) lies from the usual one; only the finite ones.

    >>> distances(np.array([1.0, 5.0, np.nan]), Moments(mean=2.0, std=0.5, windows=9))
    [2.0, 6.0]
    """
    away = np.abs(np.asarray(expected, np.float64) - usual.mean) / usual.std
    return [float(value) for value in away[np.isfinite(away)]]
