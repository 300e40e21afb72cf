"""What the benchmarks serve: the demo's bundles where they are, else untrained ones alike; and a near-empty graph.

A graph costs the same whatever its weights are, so untrained students of the demo's recipes stand for trained ones.
"""

import shutil
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models import bundle as bundle_format
from models.manifest import Calibration, FaceNetFiles, GraphSpec, Provenance, output_names
from models.nets.encoder_spec import EncoderSpec
from models.spec import FACE, FaceSpec, InputSpec, Task

ROOT: Final = Path(__file__).parents[2]
DEMO: Final = ROOT / "runs" / "demo" / "bundles"
RECIPES: Final = {"pain": "synthetic-pain.yaml", "valence-arousal": "synthetic-valence-arousal.yaml"}
PAIN_LEVELS: Final = ("BL1", "PA1", "PA2", "PA3", "PA4")
OPSET: Final = 18
EMPTY: Final = "empty"
STUDENT: Final = "student"
RESNET18: Final = "resnet18"
MODELS: Final = (STUDENT, RESNET18, EMPTY)
INPUT: Final = "face"
OUTPUT: Final = "output"


class Served(NamedTuple):
    """A bundle, and the one graph of it that takes the face alone."""

    folder: Path
    name: str
    graph: Path


def served(model: str, cache: Path) -> Served:
    """The pain student, the same with a ResNet-18 for the face, or `empty`; in the cache where it must be made."""
    if model == EMPTY:
        folder = empty_bundle(cache)
    elif model == RESNET18:
        folder = untrained(cache.absolute() / "bundles" / RESNET18, RECIPES["pain"], {FACE: EncoderSpec(name=RESNET18)})
    else:
        folder = demo_bundles(cache) / "pain"
    manifest = bundle_format.load(folder).manifest
    graph = manifest.graph_for(frozenset({FACE}))
    assert graph is not None  # each bundle has one for the face
    return Served(folder, manifest.name, folder / graph.file)


def demo_bundles(cache: Path) -> Path:
    """A folder with both of the demo's bundles: those that `pkdot demo` made, else untrained ones."""
    if all((DEMO / task / bundle_format.MANIFEST).is_file() for task in RECIPES):
        return DEMO
    folder = cache.absolute() / "bundles" / "untrained"
    for task, recipe in RECIPES.items():
        untrained(folder / task, recipe, {})
    return folder


def untrained(folder: Path, recipe: str, encoders: Mapping[str, EncoderSpec]) -> Path:
    """A bundle of students that were never trained, made where it is not there; `folder`."""
    if not (folder / bundle_format.MANIFEST).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write_untrained(folder, recipe, encoders)
    return folder


def write_untrained(folder: Path, recipe: str, encoders: Mapping[str, EncoderSpec]) -> None:
    """As `pkdot export` writes it, with other `encoders` than the recipe's where they are named."""
    import torch

    from models.nets.student import Student
    from training.config import load_config
    from training.face_nets.fetch import cached_face_nets
    from training.stages.export import Graph, to_onnx
    from training.stages.golden import golden_windows

    config = load_config(ROOT / "training" / "configs" / recipe)
    task: Task = "pain" if config.corpus.kind == "biovid" else "valence-arousal"
    levels = PAIN_LEVELS if task == "pain" else ()
    network = config.network.model_copy(update={"encoders": {**config.network.encoders, **encoders}})
    torch.manual_seed(0)
    for part in ("graphs", "golden", "face"):
        (folder / part).mkdir(parents=True)
    graphs = []
    for available in config.students:
        student = Student(
            available,
            config.missing(available),
            config.inputs,
            network,
            task=task,
            outputs=len(levels) - 1 if levels else 2,
        ).eval()
        graph = graph_spec("-".join(available), available, config.missing(available), task)
        to_onnx(Graph(student), config.inputs, folder / graph.file)
        golden = golden_windows(config.inputs, available)
        with torch.no_grad():
            output = student({m: torch.from_numpy(array) for m, array in golden.items()}).output.numpy()
        np.savez(folder / graph.golden, allow_pickle=False, output=output, **golden)
        graphs.append(graph)
    face = FaceNetFiles(
        detector_short="face/detector_short.onnx",
        detector_full="face/detector_full.onnx",
        landmarks="face/landmarks.onnx",
    )
    for name in face.model_dump().values():
        shutil.copyfile(cached_face_nets() / Path(name).name, folder / name)
    prevalent = tuple(m for m in config.modalities if any(m in available for available in config.students))
    served_inputs = {"face": config.inputs.face, "voice": config.inputs.voice if "voice" in prevalent else None}
    write_bundle(
        folder,
        graphs,
        {
            "name": config.name,
            "task": task,
            "levels": levels,
            "prevalent": prevalent,
            "privileged": tuple(m for m in config.modalities if m not in prevalent),
            "inputs": config.inputs.model_copy(update={**served_inputs, "signals": {}, "features": {}}),
            "face": face,
        },
    )


def empty_bundle(cache: Path) -> Path:
    """A bundle whose graph does next to nothing: uint8 (batch, 10, 112, 112, 3) to float32 (batch, 1)."""
    folder = cache.absolute() / "bundles" / EMPTY
    if (folder / bundle_format.MANIFEST).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("graphs", "golden"):
        (folder / part).mkdir(parents=True)
    inputs = InputSpec(window_s=2.0, hop_s=2.0, face=FaceSpec())
    graph = graph_spec(FACE, (FACE,), (), "pain")
    onnx.save(empty_graph(inputs.shape(FACE)), folder / graph.file)
    golden = np.random.default_rng(0).integers(0, 256, (4, *inputs.shape(FACE)), np.uint8)
    np.savez(folder / graph.golden, allow_pickle=False, output=largest(golden), face=golden)
    about = {"name": EMPTY, "task": "pain", "levels": PAIN_LEVELS[:2], "prevalent": (FACE,), "privileged": ()}
    write_bundle(folder, [graph], {**about, "inputs": inputs, "face": None})
    return folder


def empty_graph(shape: tuple[int, ...]) -> onnx.ModelProto:
    """The largest byte of each clip, as float32: no step copies the clip, and all of it is read."""
    nodes = [
        helper.make_node("Flatten", [INPUT], ["flat"], axis=1),
        helper.make_node("ReduceMax", ["flat", "axis"], ["largest"], keepdims=1),
        helper.make_node("Cast", ["largest"], [OUTPUT], to=TensorProto.FLOAT),
    ]
    fed = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *shape])
    given = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1])
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    graph = helper.make_graph(nodes, EMPTY, [fed], [given], [axis])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def largest(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the near-empty graph answers."""
    return np.asarray(clips.reshape(len(clips), -1).max(axis=1, keepdims=True), np.float32)


def graph_spec(name: str, available: tuple[str, ...], hallucinated: tuple[str, ...], task: Task) -> GraphSpec:
    """A graph's entry in the manifest, without a valid calibration."""
    quantiles = dict.fromkeys(output_names(task, ()))
    return GraphSpec(
        available=available,
        hallucinated=hallucinated,
        file=f"graphs/{name}.onnx",
        inputs={m: m for m in available},
        output=OUTPUT,
        golden=f"golden/{name}.npz",
        calibration=Calibration(quantiles=quantiles, people=0, windows=0, reason="nobody was measured"),
    )


def write_bundle(folder: Path, graphs: list[GraphSpec], about: Mapping[str, Any]) -> None:
    """Hash the files, and write the manifest."""
    provenance = Provenance(
        trained_on="nothing",
        synthetic=True,
        protocol="none: untrained",
        metrics={},
        git_revision=None,
        licences={},
    )
    values = {**about, "graphs": tuple(graphs), "provenance": provenance}
    bundle_format.write(folder, dict(starmap(plain, values.items())))


def plain(name: str, value: Any) -> tuple[str, Any]:
    """A field as plain data."""
    if isinstance(value, tuple):
        return name, [plain(name, one)[1] for one in value]
    return name, value.model_dump() if hasattr(value, "model_dump") else value
