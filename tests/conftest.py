"""What many folders of tests share: real clips, and small real bundles.

The bundles are ONNX graphs whose answers can be worked out in numpy, with the real face nets beside them.

Each graph averages its input and weighs the averages: the face's mean colour (3 numbers), the voice's mean energy per
mel band (64 numbers). So another picture or another sound gives another, finite answer.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from xdist.scheduler import LoadFileScheduling

from models import bundle as bundle_format
from models.spec import FaceSpec, InputSpec, LogMelSpec
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets

OPSET, IR_VERSION = 18, 9
WINDOW_S = 2.0
LEVELS = ("BL1", "PA1", "PA2", "PA3", "PA4")
GOLDEN_WINDOWS = 2
END_TO_END = "tests/e2e/"
LONG = (
    END_TO_END,
    "tests/models/nets/test_batches.py",
    "tests/training/compare/test_compare.py",
    "tests/training/stages/test_export.py",
    "tests/docker/test_haproxy.py",
    "tests/service/http/test_live_server.py",
)
"""What takes half a minute or more."""

# one thread each, here and in the processes that tests start: there is one of these processes for each core
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("any machine", deadline=None)  # an example may take long where others use the cores
settings.load_profile("any machine")

Arrays = dict[str, NDArray[np.generic]]
Weights = Mapping[str, NDArray[np.float32]]


class FilesInProcesses(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file's tests run in one process. So do all of `e2e`, which share the demo that they make first."""

    def _split_scope(self, nodeid: str) -> str:
        return END_TO_END if nodeid.startswith(END_TO_END) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesInProcesses:
    return FilesInProcesses(config, log)


@pytest.hookimpl(trylast=True)  # whatever order others make of them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: as the last it would leave the other process with nothing to do."""
    items.sort(key=lambda item: [not item.nodeid.startswith(path) for path in LONG])


@pytest.fixture(scope="session")
def clips() -> Path:
    """Real recordings that nobody here made; they lie beside the checkout, and not on a user's machine."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "clips"
    if not folder.is_dir():
        pytest.skip("needs the recordings in ../shared/data/clips")
    return folder


@pytest.fixture(scope="session")
def face_nets_folder() -> Path:
    """The three nets that find a face."""
    try:
        return cached_face_nets()
    except FaceNetsMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def pain_bundle(tmp_path_factory: pytest.TempPathFactory, face_nets_folder: Path) -> Path:
    """Pain from the face, calibrated. Read only: tests share it."""
    return write_pain_bundle(tmp_path_factory.mktemp("pain") / "bundle", face_nets_folder)


@pytest.fixture(scope="session")
def uncalibrated_pain_bundle(tmp_path_factory: pytest.TempPathFactory, face_nets_folder: Path) -> Path:
    """Pain from the face, without a valid quantile and with the reason. Read only: tests share it."""
    return write_pain_bundle(
        tmp_path_factory.mktemp("uncalibrated") / "bundle", face_nets_folder, name="pain-few-people", quantile=None
    )


@pytest.fixture(scope="session")
def affect_bundle(tmp_path_factory: pytest.TempPathFactory, face_nets_folder: Path) -> Path:
    """Valence and arousal from the face, the voice, or both; the voice alone is not calibrated. Read only."""
    return write_affect_bundle(tmp_path_factory.mktemp("affect") / "bundle", face_nets_folder)


@pytest.fixture(scope="session")
def bundles_folder(tmp_path_factory: pytest.TempPathFactory, pain_bundle: Path, affect_bundle: Path) -> Path:
    """A folder of two bundles, `pain` and `valence-arousal`. Read only."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(pain_bundle, folder / "pain")
    shutil.copytree(affect_bundle, folder / "valence-arousal")
    return folder


@pytest.fixture(scope="session")
def make_pain_bundle(face_nets_folder: Path) -> Callable[..., Path]:
    """`make_pain_bundle(path, name="…", quantile=0.6, seed=0)`: a bundle that a test may change."""

    def make(path: Path, *, name: str = "pain-test", quantile: float | None = 0.6, seed: int = 0) -> Path:
        return write_pain_bundle(path, face_nets_folder, name=name, quantile=quantile, seed=seed)

    return make


def write_pain_bundle(
    path: Path, face_nets: Path, *, name: str = "pain-test", quantile: float | None = 0.6, seed: int = 0
) -> Path:
    inputs = InputSpec(window_s=WINDOW_S, hop_s=WINDOW_S, face=FaceSpec())
    weights = {"face": np.random.default_rng(seed).normal(0, 4, (3, len(LEVELS) - 1)).astype(np.float32)}
    reason = None if quantile is not None else "Too few people were left for calibration."
    graph = write_graph(path, inputs, weights, {"pain": quantile}, ("eda", "ecg", "emg"), "logits", reason=reason)
    task = {"name": name, "task": "pain", "levels": LEVELS, "prevalent": ("face",)}
    return finish(path, face_nets, inputs, [graph], task | {"privileged": ("eda", "ecg", "emg")})


def write_affect_bundle(path: Path, face_nets: Path, *, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    inputs = InputSpec(window_s=WINDOW_S, hop_s=WINDOW_S, face=FaceSpec(), voice=LogMelSpec())
    face, voice = (rng.normal(0, scale, (size, 2)).astype(np.float32) for scale, size in ((1.0, 3), (0.02, 64)))
    known, unknown = {"valence": 0.3, "arousal": 0.4}, {"valence": None, "arousal": None}
    graphs = [
        write_graph(path, inputs, {"face": face}, known, ("voice",), "values"),
        write_graph(path, inputs, {"voice": voice}, unknown, ("face",), "values", reason="Too few voices were left."),
        write_graph(path, inputs, {"face": face, "voice": voice}, known, (), "values"),
    ]
    task = {"name": "affect-test", "task": "valence-arousal", "prevalent": ("face", "voice"), "privileged": ()}
    return finish(path, face_nets, inputs, graphs, task)


def write_graph(
    path: Path,
    inputs: InputSpec,
    weights: Weights,
    quantiles: Mapping[str, float | None],
    hallucinated: tuple[str, ...],
    output: str,
    *,
    reason: str | None = None,
) -> dict[str, Any]:
    """Write one graph and its golden arrays; returns its entry in the manifest."""
    (path / "golden").mkdir(parents=True, exist_ok=True)
    name = "_".join(weights)
    tanh = output == "values"
    onnx.save(averaging_model(inputs, weights, output, tanh=tanh), path / f"{name}.onnx")
    golden = example_arrays(inputs, weights)
    answer = averages(golden, weights, tanh=tanh)
    np.savez_compressed(path / "golden" / f"{name}.npz", allow_pickle=False, output=answer, **golden)
    return {
        "available": tuple(weights),
        "hallucinated": hallucinated,
        "file": f"{name}.onnx",
        "inputs": {modality: f"{modality}_input" for modality in weights},
        "output": output,
        "golden": f"golden/{name}.npz",
        "calibration": {"quantiles": dict(quantiles), "people": 12, "windows": 480, "reason": reason},
    }


def averaging_model(inputs: InputSpec, weights: Weights, output: str, *, tanh: bool) -> onnx.ModelProto:
    """Cast → ReduceMean → MatMul for each modality, their sum, and Tanh where asked."""
    nodes, constants, parts = [], [], []
    for modality, weight in weights.items():
        axes = [1, 2, 3] if modality == "face" else [2]
        scale = np.float32(255 if modality == "face" else 1)
        arrays = {"axes": np.array(axes, np.int64), "weight": weight / scale}
        constants += [numpy_helper.from_array(array, f"{modality}_{key}") for key, array in arrays.items()]
        nodes += [
            helper.make_node("Cast", [f"{modality}_input"], [f"{modality}_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{modality}_float", f"{modality}_axes"], [f"{modality}_mean"], keepdims=0),
            helper.make_node("MatMul", [f"{modality}_mean", f"{modality}_weight"], [f"{modality}_part"]),
        ]
        parts.append(f"{modality}_part")
    nodes.append(helper.make_node("Sum", parts, ["sum" if tanh else output]))
    if tanh:
        nodes.append(helper.make_node("Tanh", ["sum"], [output]))
    kinds = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
    fed = [
        helper.make_tensor_value_info(f"{m}_input", kinds[inputs.dtype(m)], ["batch", *inputs.shape(m)])
        for m in weights
    ]
    width = next(iter(weights.values())).shape[1]
    given = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(nodes, "averages", fed, [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def averages(arrays: Mapping[str, NDArray[np.generic]], weights: Weights, *, tanh: bool) -> NDArray[np.float32]:
    """What `averaging_model` must answer, worked out in numpy and float64."""
    total = np.zeros(1)
    for modality, weight in weights.items():
        array = np.asarray(arrays[modality], np.float64)
        mean = array.mean(axis=(1, 2, 3)) / 255 if modality == "face" else array.mean(axis=2)
        total = total + mean @ np.asarray(weight, np.float64)
    return np.asarray(np.tanh(total) if tanh else total, np.float32)


def example_arrays(inputs: InputSpec, modalities: Mapping[str, object]) -> Arrays:
    """Patches of colour, and log-mel energies between silence and loud speech."""
    rng = np.random.default_rng(7)
    arrays: Arrays = {}
    for modality in modalities:
        shape = (GOLDEN_WINDOWS, *inputs.shape(modality))
        if modality == "face":
            brightest = np.array([250, 120])[:, None, None, None, None]
            patches = rng.integers(0, brightest, (GOLDEN_WINDOWS, shape[1], 7, 7, 3), np.uint8)
            arrays[modality] = patches.repeat(shape[2] // 7, axis=2).repeat(shape[3] // 7, axis=3)
        else:
            arrays[modality] = rng.uniform(-13.8, 2.0, shape).astype(np.float32)
    return arrays


def finish(path: Path, face_nets: Path, inputs: InputSpec, graphs: list[dict[str, Any]], task: dict[str, Any]) -> Path:
    shutil.copytree(face_nets, path / "face")
    (path / "card.md").write_text("# A bundle for tests: it averages colours, and knows nothing.\n", encoding="utf-8")
    manifest: dict[str, object] = {
        **task,
        "inputs": inputs,
        "graphs": graphs,
        "face": {net: f"face/{net}.onnx" for net in ("detector_short", "detector_full", "landmarks")},
        "provenance": {
            "trained_on": "synthetic biovid" if task["task"] == "pain" else "synthetic affwild2",
            "synthetic": True,
            "protocol": "none: the weights are drawn at random",
            "metrics": {},
            "git_revision": None,
            "licences": {"weights": "Apache-2.0", "face": "Apache-2.0"},
        },
    }
    return bundle_format.write(path, manifest).path
