"""Shadows: what is compared, when, and what becomes of failures."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models import bundle as bundle_format
from models.manifest import Calibration
from service.bundles.shadow import MAX_PENDING, Shadow, readings
from service.bundles.shelf import BundleShelf, LoadedBundle
from service.telemetry.metrics import Telemetry

EDA = frozenset({"eda"})
WINDOW = np.array([1, 2, 3, 4], np.float32)


class Runner:
    """Answers with `gain` times the sum of its window, or fails."""

    key = "runner"

    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.asked: list[Mapping[str, Any]] = []

    def run(self, inputs: Mapping[str, Any]) -> Any:
        self.asked.append(inputs)
        if self.gain == 0:
            raise RuntimeError("no gain, no answer")
        return self.gain * inputs["eda"].sum(axis=1, keepdims=True)


@pytest.fixture
def bundle(tmp_path: Path, write: Callable[..., str]) -> Callable[[float], LoadedBundle]:
    """`bundle(gain)`: a loaded bundle of that gain."""

    def make(gain: float) -> LoadedBundle:
        write(tmp_path / f"{gain}", gain)
        return LoadedBundle(bundle_format.load(tmp_path / f"{gain}"), {EDA: Runner(gain)}, None, {})  # type: ignore[dict-item]

    return make


def asked(loaded: LoadedBundle) -> list[Mapping[str, Any]]:
    return cast("Runner", loaded.runners[EDA]).asked


class Service:
    """A shadow beside a bundle, and what was counted."""

    def __init__(self, ours: LoadedBundle, theirs: LoadedBundle, **values: Any) -> None:
        self.telemetry = Telemetry(latency_objective_s=0.05)
        self.registry: CollectorRegistry = self.telemetry.registry
        self.queued = 0
        values = {"share": 1.0, "draw": lambda: 0.0} | values
        self.shadow = Shadow(telemetry=self.telemetry, queue_items=lambda: self.queued, **values)
        self.shelf = BundleShelf((ours,), shadows=(theirs,))
        self.ours = ours
        self.shadow.follow(self.shelf)

    def consider(self, *windows: Any, answers: Any = None) -> None:
        items = [lambda window=window: {"eda": window} for window in windows]
        outputs = self.ours.runners[EDA].run({"eda": np.stack(windows)}) if answers is None else answers
        self.shadow.consider(self.ours, self.ours.bundle.manifest.graphs[0], items, outputs)

    async def finish(self) -> None:
        """Let the shadow compare all that is pending."""
        self.shadow.start()
        while self.shadow.wake.is_set():
            await asyncio.sleep(0)
        await self.shadow.close()

    def windows(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("pkdot_shadow_windows_total", {"bundle": "load", "outcome": outcome})

    def differences(self) -> tuple[float | None, float | None]:
        """How many, and their sum."""
        labels = {"bundle": "load", "output": "load"}
        names = ("pkdot_shadow_difference_count", "pkdot_shadow_difference_sum")
        count, total = (self.registry.get_sample_value(name, labels) for name in names)
        return count, total


def test_the_difference_of_every_window_is_measured(bundle: Callable[[float], LoadedBundle]) -> None:
    service = Service(bundle(1.0), bundle(3.0))
    service.consider(WINDOW, 2 * WINDOW)

    asyncio.run(service.finish())

    assert service.differences() == (2, pytest.approx(2 * 10 + 2 * 20))  # |1 - 3| times the sums 10 and 20
    assert service.windows("compared") == 2


@pytest.mark.parametrize(("value", "bucket"), [(2e-6, "2e-06"), (40_000, "50000.0")])
def test_small_and_large_differences_fall_into_buckets_of_their_own(
    bundle: Callable[[float], LoadedBundle], value: float, bucket: str
) -> None:
    service = Service(bundle(1.0), bundle(2.0))
    service.consider(np.array([0.9 * value, 0, 0, 0], np.float32))

    asyncio.run(service.finish())

    (metric,) = service.telemetry.shadow_difference.collect()
    filled = [sample.labels["le"] for sample in metric.samples if sample.name.endswith("_bucket") and sample.value]
    assert filled[0] == bucket
    assert len(filled) > 1


def test_only_the_sample_is_taken(bundle: Callable[[float], LoadedBundle]) -> None:
    draws = iter([0.04, 0.05, 0.9, 0.0])
    other = bundle(3.0)
    service = Service(bundle(1.0), other, share=0.05, draw=lambda: next(draws))
    service.consider(WINDOW, 2 * WINDOW, 3 * WINDOW, 4 * WINDOW)

    asyncio.run(service.finish())

    assert [float(window["eda"].sum()) for window in asked(other)] == [10, 40]


def test_nothing_is_taken_or_run_while_windows_wait_for_the_device(bundle: Callable[[float], LoadedBundle]) -> None:
    other = bundle(3.0)
    service = Service(bundle(1.0), other)
    service.consider(WINDOW)
    service.queued = 1
    service.consider(WINDOW)

    asyncio.run(service.finish())

    assert asked(other) == []
    assert service.windows("skipped") == 2


def test_no_more_is_kept_than_the_limit(bundle: Callable[[float], LoadedBundle]) -> None:
    service = Service(bundle(1.0), bundle(3.0))
    service.consider(*[WINDOW] * (MAX_PENDING + 3))

    asyncio.run(service.finish())

    assert (service.windows("compared"), service.windows("skipped")) == (MAX_PENDING, 3)


def test_a_kept_window_does_not_change_with_what_it_was_copied_from(bundle: Callable[[float], LoadedBundle]) -> None:
    service, window = Service(bundle(1.0), bundle(3.0)), WINDOW.copy()
    service.consider(window)
    window[:] = 0

    asyncio.run(service.finish())

    assert service.differences() == (1, pytest.approx(20))


@pytest.mark.parametrize("gain", [0.0, float("inf")], ids=["raises", "is not finite"])
def test_a_failing_shadow_is_counted_and_explained_once(
    bundle: Callable[[float], LoadedBundle], caplog: pytest.LogCaptureFixture, gain: float
) -> None:
    ours, theirs = bundle(1.0), bundle(3.0)
    theirs.runners[EDA].gain = gain  # type: ignore[attr-defined]
    service = Service(ours, theirs)
    service.consider(WINDOW, WINDOW)

    with caplog.at_level(logging.WARNING):
        asyncio.run(service.finish())

    assert service.windows("failed") == 2
    assert service.differences() == (None, None)
    assert len(caplog.records) == 1


def test_an_item_that_cannot_be_built_again_is_a_failure_of_the_shadow(bundle: Callable[[float], LoadedBundle]) -> None:
    service = Service(bundle(1.0), bundle(3.0))

    def build() -> Any:
        raise RuntimeError("the upload is gone")

    service.shadow.consider(service.ours, service.ours.bundle.manifest.graphs[0], [build], [np.ones(1, np.float32)])

    assert service.windows("failed") == 1


def test_windows_without_an_answer_and_other_versions_are_not_compared(bundle: Callable[[float], LoadedBundle]) -> None:
    other = bundle(3.0)
    service, canary = Service(bundle(1.0), other), bundle(2.0)
    service.consider(WINDOW, answers=[np.array([np.nan], np.float32)])
    items = [lambda: {"eda": WINDOW}]
    service.shadow.consider(canary, canary.bundle.manifest.graphs[0], items, [np.ones(1, np.float32)])

    asyncio.run(service.finish())

    assert asked(other) == []


def test_another_shadow_begins_its_series_anew(bundle: Callable[[float], LoadedBundle]) -> None:
    service = Service(bundle(1.0), bundle(3.0))
    service.consider(WINDOW)
    asyncio.run(service.finish())
    service.consider(WINDOW)
    third = bundle(4.0)

    service.shadow.follow(BundleShelf((service.ours,), shadows=(third,)))

    assert service.differences() == (None, None)
    service.consider(WINDOW)
    asyncio.run(service.finish())
    assert service.differences() == (1, pytest.approx(30))


def about(**values: Any) -> Any:
    """As much of a manifest as `readings` needs."""
    return SimpleNamespace(**({"levels": (), "values": ()} | values))


GRAPH: Any = SimpleNamespace(calibration=Calibration(quantiles={}, people=0, windows=0, temperature=2.0))


def test_pain_is_compared_by_its_mean_index() -> None:
    manifest = about(task="pain", levels=("none", "some", "much"))
    # CORN at temperature 2: P(y > 0) = sigmoid(0) = 1/2, P(y > 1 | y > 0) = sigmoid(ln 3) = 3/4; their sums of products
    row = np.array([0.0, 2 * np.log(3)], np.float32)

    assert readings(manifest, GRAPH, row) == {"pain": pytest.approx(1 / 2 + 3 / 8)}


def test_a_class_is_compared_by_its_probability() -> None:
    manifest = about(task="classification", levels=("calm", "upset"))
    row = np.array([0.0, 2 * np.log(3)], np.float32)  # softmax at temperature 2: 1 to 3

    assert readings(manifest, GRAPH, row) == {"calm": pytest.approx(0.25), "upset": pytest.approx(0.75)}


def test_values_are_compared_as_they_are() -> None:
    row = np.array([0.25, -0.5], np.float32)

    assert readings(about(task="valence-arousal"), GRAPH, row) == {"valence": 0.25, "arousal": -0.5}
    assert readings(about(task="regression", values=("load", "strain")), GRAPH, row) == {"load": 0.25, "strain": -0.5}
