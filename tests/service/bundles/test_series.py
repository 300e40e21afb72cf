"""How unusual what a graph hallucinates is, measured while it runs."""

import asyncio
import json
import math
import shutil
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import bundle as bundle_format
from models.bundle import MANIFEST, BundleError
from models.manifest import Moments
from service.batcher.batcher import Batcher
from service.batcher.golden import run_everywhere
from service.bundles.candidates import Candidates
from service.bundles.loader import ShelfReader
from service.bundles.series import BundleSeries, distances
from service.bundles.shelf import BundleShelf
from service.runtime.provider_options import CPU
from service.runtime.providers import Providers
from service.runtime.runner import GraphRunner
from service.settings import Settings
from service.telemetry.metrics import Telemetry
from service.threads.plan import ThreadPlan

USUAL = {"mean": 100.0, "std": 20.0, "windows": 50}
SHADES = (90, 100, 190)
"""Windows of one grey: 0.5, 0 and 4.5 standard deviations from what is usual."""

PLAN = ThreadPlan(cores=1, intra_op=1, decoders=1)
MakeBundle = Callable[..., Path]


def with_uncertainty(path: Path, output: str = "uncertainty_eda", **more: Any) -> Path:
    """The pain bundle, whose graph now says that it expects its error for EDA to be the face's mean colour."""
    model = onnx.load(path / "face.onnx")
    axes = helper.make_tensor("axes_of_all", TensorProto.INT64, [4], [1, 2, 3, 4])
    model.graph.initializer.append(axes)
    model.graph.node.append(
        helper.make_node("ReduceMean", ["face_float", "axes_of_all"], ["uncertainty_eda"], keepdims=0)
    )
    model.graph.output.append(helper.make_tensor_value_info("uncertainty_eda", TensorProto.FLOAT, ["batch"]))
    onnx.save(model, path / "face.onnx")
    values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    del values["files"], values["schema_version"]
    values["graphs"][0] |= {"uncertainty": {"eda": output}, **more}
    bundle_format.write(path, values)
    return path


def load(path: Path) -> BundleShelf:
    return ShelfReader(path, providers=Providers((CPU,)), plan=PLAN).read()


def measured(shelf: BundleShelf, use: Callable[[GraphRunner], object]) -> dict[str, float]:
    """What the metric holds after `use`, by the name of the sample's ending or bucket."""
    telemetry = Telemetry(latency_objective_s=1)

    async def follow() -> None:
        BundleSeries(telemetry).follow(shelf)

    asyncio.run(follow())
    use(next(iter(shelf.bundles[0].runners.values())))
    samples = telemetry.hallucination_distance.collect()[0].samples
    labels = {"bundle": "pain-test", "version": shelf.bundles[0].bundle.version, "modality": "eda"}
    assert all(labels.items() <= sample.labels.items() for sample in samples)
    return {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in samples}


def windows(runner: GraphRunner) -> dict[str, Any]:
    shape = runner.declared[runner.graph.inputs["face"]].shape[1:]
    return {"face": np.stack([np.full(shape, shade, np.uint8) for shade in SHADES])}


def test_each_window_counts_by_its_distance_from_the_usual(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    shelf = load(with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL}))
    plain = load(make_pain_bundle(tmp_path / "plain")).bundles[0].runners[frozenset({"face"})]
    outputs = []
    values = measured(shelf, lambda runner: outputs.append(runner.run(windows(runner))))

    assert (values["count"], values["sum"]) == (3, pytest.approx(0.5 + 0 + 4.5))
    assert (values["0.25"], values["0.5"], values["4.0"], values["6.0"]) == (1, 2, 2, 3)
    np.testing.assert_array_equal(outputs[0], plain.run(windows(plain)))


def test_a_manifest_that_now_tells_of_uncertainty_is_measured_although_its_graph_was_loaded_without(
    make_pain_bundle: MakeBundle, tmp_path: Path
) -> None:
    told = with_uncertainty(make_pain_bundle(tmp_path / "told"), uncertainty_reference={"eda": USUAL})
    folder = tmp_path / "bundles"
    shutil.copytree(told, folder)
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for key in ("uncertainty", "uncertainty_reference"):
        del values["graphs"][0][key]
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    reader = ShelfReader(folder, providers=Providers((CPU,)), plan=PLAN)
    before = reader.read()  # held, so that a runner could be shared
    shutil.copy(told / MANIFEST, folder)

    values = measured(reader.read(), lambda runner: runner.run(windows(runner)))

    assert before.bundles[0].bundle.manifest.graphs[0].uncertainty == {}
    assert values["count"] == 3


def test_a_shadow_that_is_calibrated_anew_counts_for_itself(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL})
    with_uncertainty(make_pain_bundle(tmp_path / "s", quantile=0.5), uncertainty_reference={"eda": USUAL})
    shadow = Candidates(folder=tmp_path / "s", share=1)
    shelf = ShelfReader(tmp_path / "b", providers=Providers((CPU,)), plan=PLAN, shadow=shadow).read()
    versions = [loaded.bundle.version for loaded in (*shelf.bundles, *shelf.shadows)]
    telemetry = Telemetry(latency_objective_s=1)

    async def follow() -> None:
        BundleSeries(telemetry).follow(shelf)

    asyncio.run(follow())
    runner, beside = (next(iter(loaded.runners.values())) for loaded in (*shelf.bundles, *shelf.shadows))
    assert runner.key == beside.key
    beside.run(windows(beside))
    beside.run(windows(beside))
    runner.run(windows(runner))
    counts = {
        sample.labels["version"]: sample.value
        for sample in telemetry.hallucination_distance.collect()[0].samples
        if sample.name.endswith("_count")
    }
    assert counts == dict(zip(versions, (3, 6), strict=True))


def test_windows_that_only_fill_a_batch_do_not_count(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    shelf = load(with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL}))

    def padded(runner: GraphRunner) -> None:
        runner.buckets = (1, 2)
        runner.run(windows(runner))

    assert measured(shelf, padded)["count"] == 3


def test_golden_windows_that_find_out_whose_fault_a_failure_is_do_not_count(
    make_pain_bundle: MakeBundle, tmp_path: Path
) -> None:
    shelf = load(with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL}))

    async def prove(runner: GraphRunner) -> None:
        batcher = Batcher(lanes=(0, 0))
        await batcher.start()
        try:
            sent = {"face": windows(runner)["face"][0]}
            await batcher.run(runner, [lambda: sent], deadline_s=math.inf)
            await run_everywhere(batcher, runner, lambda: sent, deadline_s=math.inf)
        finally:
            await batcher.close()

    assert measured(shelf, lambda runner: asyncio.run(prove(runner)))["count"] == 1


def test_what_proves_a_new_bundle_does_not_count_for_the_one_that_serves_with_an_equal_graph(
    make_pain_bundle: MakeBundle, tmp_path: Path
) -> None:
    folder = with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL})
    anew = with_uncertainty(make_pain_bundle(tmp_path / "anew", quantile=0.5), uncertainty_reference={"eda": USUAL})
    reader = ShelfReader(folder, providers=Providers((CPU,)), plan=PLAN)
    shelf, read = reader.read(), list[BundleShelf]()

    def reload(runner: GraphRunner) -> None:
        runner.run(windows(runner))
        shutil.copytree(anew, folder, dirs_exist_ok=True)
        read.append(reader.read())
        assert next(iter(read[0].bundles[0].runners.values())) is runner

    assert measured(shelf, reload)["count"] == 3
    assert read[0].bundles[0].identity != shelf.bundles[0].identity


def test_a_run_tells_what_it_expects_of_each_of_its_windows(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    shelf = load(with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"eda": USUAL}))
    told: list[float] = []

    def padded(runner: GraphRunner) -> None:
        runner.buckets = (2,)
        runner.run(windows(runner), tell=lambda expected: told.extend(expected["eda"].tolist()))

    measured(shelf, padded)

    assert told == pytest.approx(SHADES)


def out_of_range(warnings: list[str]) -> list[str]:
    return [warning for warning in warnings if warning.startswith("out-of-range:")]


@pytest.mark.parametrize(("mean", "said"), [(1000.0, ["1 of 1"]), (128.0, [])])
def test_an_answer_says_where_its_windows_are_unlike_the_corpus(
    make_pain_bundle: MakeBundle,
    open_client: Callable[[Settings], AbstractContextManager[Any]],
    tmp_path: Path,
    clips: Path,
    mean: float,
    said: list[str],
) -> None:
    usual = {"eda": {"mean": mean, "std": 100.0, "windows": 50}}
    with_uncertainty(make_pain_bundle(tmp_path / "pain"), uncertainty_reference=usual)
    picture = (clips / "single_face.jpg").read_bytes()
    with open_client(Settings(bundles=tmp_path)) as client:
        whole = client.post("/predict/pain", files={"frames": picture}).json()
        lines = client.post("/predict/pain", files={"frames": picture}, headers={"accept": "application/x-ndjson"}).text
        with client.websocket_connect("/stream/pain", subprotocols=["pkdot.v1"]) as socket:
            socket.send_text('{"type": "hello", "video": {"fps": 10}}')
            for n in range(10):
                socket.send_bytes(struct.pack("<BQ", 1, 100_000 * n) + picture)
            socket.send_text('{"type": "end"}')
            *_, stream = [socket.receive_json() for _ in ("ready", "window", "summary")]

    told = [out_of_range(answer["warnings"]) for answer in (whole, json.loads(lines.splitlines()[-1]), stream)]
    assert [[warning.split(" answered")[0] for warning in warnings] for warnings in told] == [
        [f"out-of-range: {count}" for count in said]
    ] * 3


def test_without_a_reference_nothing_is_measured(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    assert (
        measured(load(with_uncertainty(make_pain_bundle(tmp_path / "b"))), lambda runner: runner.run(windows(runner)))
        == {}
    )


def test_a_graph_without_the_output_that_it_is_said_to_have_is_refused(
    make_pain_bundle: MakeBundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="no output 'uncertainty_ecg'"):
        load(with_uncertainty(make_pain_bundle(tmp_path / "b"), output="uncertainty_ecg"))


def test_a_reference_for_what_has_no_uncertainty_is_refused(make_pain_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reference for an uncertainty that it does not put out"):
        with_uncertainty(make_pain_bundle(tmp_path / "b"), uncertainty_reference={"ecg": USUAL})


def test_what_is_not_finite_has_no_distance() -> None:
    expected = np.array([1.0, np.nan, np.inf, 5.0], np.float32)

    assert distances(expected, Moments(mean=2.0, std=0.5, windows=9)) == [2.0, 6.0]
