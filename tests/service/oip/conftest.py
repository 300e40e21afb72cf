"""Bundles without pictures of faces to find: each graph adds up what it is fed, so that numpy can say what it answers.

A value that is missing (NaN) counts as 0, as in a network that was trained with gaps.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from models import bundle as bundle_format
from models.spec import FaceSpec, FeatureSpec, InputSpec, LogMelSpec
from service.oip.express import Express
from service.runtime.runner import GraphRunner
from service.settings import Settings

OPSET, IR_VERSION = 18, 9
KINDS = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}

PICTURES = InputSpec(window_s=1.0, hop_s=1.0, face=FaceSpec(frames=2, size_px=32), voice=LogMelSpec(mels=8))
FEATURES = InputSpec(
    window_s=1.0,
    hop_s=1.0,
    features={"eda": FeatureSpec(shape=(5,)), "gaze": FeatureSpec(shape=(4, 3))},
)

Arrays = Mapping[str, NDArray[np.generic]]
Open = Callable[[Settings], AbstractContextManager[Any]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four bundles, one for each task: `affect`, `pain`, `mood` (classes) and `stress` (values)."""
    folder = tmp_path_factory.mktemp("tensors")
    affect = {"task": "valence-arousal", "prevalent": ("face", "voice"), "privileged": ("eda",)}
    known, half_known, unknown = (0.3, 0.4), (0.3, None), (None, None)
    write_bundle(
        folder / "affect",
        PICTURES,
        {"name": "affect", **affect},
        [
            (("face",), 2, dict(zip(("valence", "arousal"), half_known, strict=True))),
            (("voice",), 2, dict(zip(("valence", "arousal"), unknown, strict=True))),
            (("voice", "face"), 2, dict(zip(("valence", "arousal"), known, strict=True))),
        ],
    )
    levels = {"task": "pain", "levels": ("none", "some", "much"), "prevalent": ("eda",), "privileged": ("gaze",)}
    write_bundle(folder / "pain", FEATURES, {"name": "pain", **levels}, [(("eda",), 2, {"pain": 0.6})], temperature=2.0)
    classes = {"task": "classification", "levels": ("calm", "upset"), "prevalent": ("eda", "gaze"), "privileged": ()}
    write_bundle(folder / "mood", FEATURES, {"name": "mood", **classes}, [(("eda", "gaze"), 2, {"class": 0.5})])
    values = {"task": "regression", "values": ("load", "strain"), "prevalent": ("gaze",), "privileged": ()}
    write_bundle(
        folder / "stress", FEATURES, {"name": "stress", **values}, [(("gaze",), 2, {"load": 2.0, "strain": None})]
    )
    return folder


Graph = tuple[tuple[str, ...], int, dict[str, float | None]]
"""Modalities, width of the output, quantiles."""


def write_bundle(path: Path, inputs: InputSpec, about: dict[str, Any], graphs: list[Graph], **calibration: Any) -> None:
    (path / "golden").mkdir(parents=True)
    entries = []
    for modalities, width, quantiles in graphs:
        name = "_".join(modalities)
        onnx.save(
            adding_model(inputs, modalities, width, bounded=about["task"] == "valence-arousal"), path / f"{name}.onnx"
        )
        golden = example(inputs, modalities, batch=2)
        output = expected_output(inputs, golden, width, bounded=about["task"] == "valence-arousal")
        np.savez_compressed(path / "golden" / f"{name}.npz", allow_pickle=False, output=output, **golden)
        entries.append(
            {
                "available": modalities,
                "hallucinated": tuple(m for m in (*about["prevalent"], *about["privileged"]) if m not in modalities),
                "file": f"{name}.onnx",
                "inputs": {modality: f"{modality}_input" for modality in modalities},
                "output": "sum",
                "golden": f"golden/{name}.npz",
                "calibration": {"quantiles": quantiles, "people": 12, "windows": 480, **calibration},
            }
        )
    provenance = {
        "trained_on": "nothing",
        "synthetic": False,
        "protocol": "none: the weights are drawn at random",
        "metrics": {},
        "git_revision": None,
        "licences": {},
    }
    bundle_format.write(path, {**about, "inputs": inputs, "graphs": entries, "face": None, "provenance": provenance})


def weights(inputs: InputSpec, modality: str, width: int) -> NDArray[np.float32]:
    """(values of a window, width); those of features are positive, so that large values do not cancel each other."""
    size = int(np.prod(inputs.shape(modality)))
    scale = 1e-5 if inputs.dtype(modality) == "uint8" else 1e-2
    drawn = np.random.default_rng(size).normal(0, scale, (size, width)).astype(np.float32)
    return 50 * np.abs(drawn) if modality in inputs.features else drawn


def adding_model(inputs: InputSpec, modalities: tuple[str, ...], width: int, *, bounded: bool) -> onnx.ModelProto:
    """Cast → NaN to 0 → flatten → MatMul for each modality, their sum, and Tanh where it is bounded."""
    constants = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    nodes, parts, fed = [], [], []
    for m in modalities:
        constants.append(numpy_helper.from_array(weights(inputs, m, width), f"{m}_weights"))
        nodes += [
            helper.make_node("Cast", [f"{m}_input"], [f"{m}_float"], to=TensorProto.FLOAT),
            helper.make_node("IsNaN", [f"{m}_float"], [f"{m}_missing"]),
            helper.make_node("Where", [f"{m}_missing", "zero", f"{m}_float"], [f"{m}_filled"]),
            helper.make_node("Flatten", [f"{m}_filled"], [f"{m}_flat"], axis=1),
            helper.make_node("MatMul", [f"{m}_flat", f"{m}_weights"], [f"{m}_part"]),
        ]
        parts.append(f"{m}_part")
        kind, shape = KINDS[inputs.dtype(m)], ["batch", *inputs.shape(m)]
        fed.append(helper.make_tensor_value_info(f"{m}_input", kind, shape))
    nodes.append(helper.make_node("Sum", parts, ["total" if bounded else "sum"]))
    if bounded:
        nodes.append(helper.make_node("Tanh", ["total"], ["sum"]))
    given = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(nodes, "adds", fed, [given], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def example(inputs: InputSpec, modalities: tuple[str, ...], batch: int, seed: int = 7) -> Arrays:
    """Some windows."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for modality in modalities:
        shape = (batch, *inputs.shape(modality))
        bytes_wanted = inputs.dtype(modality) == "uint8"
        arrays[modality] = rng.integers(0, 256, shape, np.uint8) if bytes_wanted else rng.normal(0, 1, shape)
    return {m: array if array.dtype == np.uint8 else array.astype(np.float32) for m, array in arrays.items()}


def expected_output(inputs: InputSpec, arrays: Arrays, width: int, *, bounded: bool) -> NDArray[np.float32]:
    """What `adding_model` must answer, in numpy and float64."""
    total = sum(
        np.nan_to_num(np.asarray(array, np.float64)).reshape(len(array), -1) @ weights(inputs, modality, width)
        for modality, array in arrays.items()
    )
    return np.asarray(np.tanh(total) if bounded else total, np.float32)


@pytest.fixture(scope="session")
def client(folder: Path, open_client: Open) -> Iterator[TestClient]:
    """An app with default settings, ready; shared by tests that leave it as it is.

    Here and below there is no sandbox: only tensors come, and nothing is decoded.
    """
    with open_client(Settings(bundles=folder, sandbox="off")) as client:
        yield client


@pytest.fixture
def make_client(folder: Path, open_client: Open) -> Iterator[Callable[..., TestClient]]:
    """`make_client(max_upload_bytes=…)`: a ready app of its own."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(
            open_client(Settings.model_validate({"bundles": folder, "sandbox": "off"} | values))
        )


@pytest.fixture(scope="session")
def live(folder: Path, open_server: Open) -> Iterator[Any]:
    """A ready app behind uvicorn, on a free port of the loopback; shared by tests that leave it as it is."""
    with open_server(Settings(bundles=folder, port=0, sandbox="off")) as server:
        yield server


class Case(NamedTuple):
    """A graph of a bundle, windows for it, and what it answers in numpy."""

    model: str
    arrays: Arrays
    raw: NDArray[np.float32]


@pytest.fixture(
    params=[
        ("affect", ("face",)),
        ("affect", ("voice",)),
        ("affect", ("face", "voice")),
        ("pain", ("eda",)),
        ("mood", ("eda", "gaze")),
        ("stress", ("gaze",)),
    ],
    ids=lambda param: f"{param[0]}-{'+'.join(param[1])}",
)
def case(request: pytest.FixtureRequest) -> Case:
    """Every graph of every bundle, with three windows."""
    model, modalities = request.param
    inputs = PICTURES if model == "affect" else FEATURES
    arrays = example(inputs, modalities, batch=3, seed=11)
    return Case(model, arrays, expected_output(inputs, arrays, 2, bounded=model == "affect"))


@pytest.fixture
def fail_on_nines(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and every graph raises for EDA that holds a 9."""
    run_checked = GraphRunner.run_checked

    def checked(runner: GraphRunner, inputs: dict[str, Any], *_: object) -> Any:
        if (inputs["eda"] == 9).any():
            raise RuntimeError("nines")
        return run_checked(runner, inputs)

    return lambda: monkeypatch.setattr(GraphRunner, "run_checked", checked)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request that might go the short way, whether it set out."""
    set_out, seen = Express.set_out, list[bool]()

    def watched(express: Express, *arguments: Any) -> Any:
        way = set_out(express, *arguments)
        seen.append(way is not None)
        return way

    monkeypatch.setattr(Express, "set_out", watched)
    return seen
