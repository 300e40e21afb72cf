"""Stage 4: the students become one bundle: an ONNX graph for each set of available modalities, proved equal."""

import logging
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import bundle
from models.bundle import MANIFEST, BundleError
from models.manifest import Calibration, FaceNetFiles, GraphSpec, Provenance
from models.nets.student import Student
from models.spec import FACE, VOICE, InputSpec
from training.data import WindowSet
from training.replacing import replacing
from training.stages.card import card
from training.stages.golden import golden_windows
from training.stages.setting import Setting

OPSET = 20
PARITY = 1e-4
"""Largest difference between ONNX and torch."""
INVARIANCE = 1e-5
"""Largest difference between a sample's answer alone and in a batch."""

Arrays = Mapping[str, NDArray[np.generic]]


class ExportError(BundleError):
    """The exported graph does not compute what torch computes."""


class Graph(nn.Module):
    """The student with positional inputs and the task's output alone, as ONNX wants it."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, *tensors: Tensor) -> Tensor:
        output: Tensor = self.student(dict(zip(self.student.available, tensors, strict=True))).output
        return output


def export_bundle(
    setting: Setting,
    students: Mapping[tuple[str, ...], Student],
    calibrations: Mapping[tuple[str, ...], Calibration],
    metrics: Mapping[str, float],
    face_nets: Path,
    path: Path,
) -> bundle.Bundle:
    """Write the bundle into `path` whole or not at all; an earlier bundle there is replaced.

    Raises ExportError where a graph computes something else than torch, FolderInUseError where `path` holds anything
    else than a bundle.
    """
    with replacing(path, marker=MANIFEST, what="a bundle") as draft:
        _write_bundle(setting, students, calibrations, metrics, face_nets, draft)
    return bundle.load(path)


def _write_bundle(
    setting: Setting,
    students: Mapping[tuple[str, ...], Student],
    calibrations: Mapping[tuple[str, ...], Calibration],
    metrics: Mapping[str, float],
    face_nets: Path,
    draft: Path,
) -> None:
    for folder in ("graphs", "golden"):
        (draft / folder).mkdir()
    graphs = [_export_graph(setting, students[a], calibrations[a], draft) for a in students]
    face = None
    if any(FACE in available for available in students):
        face = FaceNetFiles(
            detector_short="face/detector_short.onnx",
            detector_full="face/detector_full.onnx",
            landmarks="face/landmarks.onnx",
        )
        (draft / "face").mkdir()
        for name in face.model_dump().values():
            shutil.copyfile(face_nets / Path(name).name, draft / name)
    provenance = _provenance(setting, metrics)
    (draft / "card.md").write_text(card(setting, graphs, provenance), encoding="utf-8")
    prevalent = sorted({name for available in students for name in available}, key=setting.config.modalities.index)
    bundle.write(
        draft,
        {
            "name": setting.config.name,
            "task": setting.config.task,
            "levels": setting.corpus.levels,
            "prevalent": prevalent,
            "privileged": [name for name in setting.config.modalities if name not in prevalent],
            "inputs": _served_inputs(setting.config.inputs, prevalent).model_dump(),
            "graphs": [graph.model_dump() for graph in graphs],
            "face": face.model_dump() if face else None,
            "provenance": provenance.model_dump(),
        },
    )


def _export_graph(setting: Setting, student: Student, calibration: Calibration, draft: Path) -> GraphSpec:
    student = student.cpu().eval()
    name = "+".join(student.available).replace("+", "-")
    file, golden = f"graphs/{name}.onnx", f"golden/{name}.npz"
    to_onnx(Graph(student), setting.config.inputs, draft / file)
    _prove_equal(student, _session(draft / file), _example_windows(setting, student.available))
    inputs = golden_windows(setting.config.inputs, student.available)
    with torch.no_grad():
        output = student({m: torch.from_numpy(v) for m, v in inputs.items()}).output.numpy()
    np.savez(draft / golden, allow_pickle=False, output=output, **inputs)
    return GraphSpec(
        available=student.available,
        hallucinated=student.hallucinated,
        file=file,
        inputs={m: m for m in student.available},
        output="output",
        golden=golden,
        calibration=calibration,
    )


def to_onnx(graph: Graph, inputs: InputSpec, file: Path) -> None:
    """Export with a free batch axis; weights stay inside the file."""
    names = graph.student.available
    # three windows: an axis of one or two could be taken for a constant or for a pair
    example = tuple(
        torch.zeros(3, *inputs.shape(m), dtype=torch.uint8 if inputs.dtype(m) == "uint8" else torch.float32)
        for m in names
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's exporter warns of its own deprecated calls
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            example,
            input_names=list(names),
            output_names=["output"],
            dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in names),),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is None only with dynamo=False
    program.save(file)


def _example_windows(setting: Setting, available: tuple[str, ...]) -> WindowSet:
    """Real windows of training people: what the graph will meet."""
    return setting.train.with_all(available).pick(torch.arange(17) % len(setting.train.with_all(available)))


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _prove_equal(student: Student, session: onnxruntime.InferenceSession, examples: WindowSet) -> None:
    """ONNX equals torch at batches of 1, 3 and 17, and each window's answer is the same alone as in the batch."""
    names = student.available
    for size in (1, 3, 17):
        tensors = {m: examples.tensors[m][:size] for m in names}
        with torch.no_grad():
            expected = student(tensors).output.numpy()
        (answer,) = session.run(None, {m: v.numpy() for m, v in tensors.items()})
        if (difference := float(np.abs(answer - expected).max())) > PARITY:
            raise ExportError(f"{names}: ONNX differs from torch by {difference:.2g} at a batch of {size}")
    alone = [session.run(None, {m: examples.tensors[m][i : i + 1].numpy() for m in names})[0] for i in range(17)]
    if (difference := float(np.abs(answer - np.concatenate(alone)).max())) > INVARIANCE:
        raise ExportError(f"{names}: an answer changes by {difference:.2g} with who shares the batch")


def _served_inputs(inputs: InputSpec, prevalent: list[str]) -> InputSpec:
    """Only what the bundle's graphs take."""
    return inputs.model_copy(
        update={
            "face": inputs.face if FACE in prevalent else None,
            "voice": inputs.voice if VOICE in prevalent else None,
            "signals": {m: s for m, s in inputs.signals.items() if m in prevalent},
        }
    )


def _provenance(setting: Setting, metrics: Mapping[str, float]) -> Provenance:
    corpus, split = setting.corpus, setting.split
    counts = ", ".join(f"{len(people)} {name}" for name, people in split._asdict().items())
    return Provenance(
        trained_on=("synthetic " if corpus.synthetic else "") + corpus.name,
        synthetic=corpus.synthetic,
        protocol=f"one split by person ({counts}), split seed {setting.config.splits.seed}, seed {setting.config.seed}",
        metrics=dict(metrics),
        git_revision=_git_revision(),
        licences={
            "corpus": corpus.licence,
            "weights": "Apache-2.0" if corpus.synthetic else "as the corpus's terms say; research only",
            "face nets": "Apache-2.0 (Google: BlazeFace, face mesh)",
        },
    )


def _git_revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__).parent
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
