"""Stage 4: the students become one bundle: an ONNX graph for each set of available modalities, proved equal."""

import logging
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import bundle
from models.bundle import MANIFEST, BundleError
from models.manifest import Calibration, FaceNetFiles, GraphSpec, Moments, Provenance
from models.nets.heads import ValuesHead
from models.nets.student import Student
from models.spec import FACE, VOICE, InputSpec
from training.data.window_set import WindowSet
from training.face_nets.fetch import cached_face_nets
from training.files.replacing import replacing
from training.stages.card import card
from training.stages.golden import golden_windows
from training.stages.setting import Setting, run_over

Floats = NDArray[np.floating[Any]]

OPSET = 20
PARITY = 1e-4
"""Largest difference between ONNX and torch, in standard deviations of the training targets for a regression."""
INVARIANCE = 1e-5
"""Largest difference between a sample's answer alone and in a batch, likewise."""
REFERENCE_WINDOWS = 1024
"""About as many windows, evenly spaced, show how an expected error spreads."""
LEAST_SPREAD = 1e-6
"""What varies less is taken for constant."""
OUTPUT = "output"
UNCERTAINTY = "uncertainty_"
"""Of a hallucinated modality, whose name follows."""


class ExportError(BundleError):
    """The exported graph does not compute what torch computes."""


class Measured(NamedTuple):
    """What was found out about the students, for the bundle and its card."""

    calibrations: Mapping[tuple[str, ...], Calibration]
    scores: Mapping[str, float]
    """On the test people."""
    groups: Mapping[str, Any]
    """Scores by group of people, as metrics.json has them."""


class Graph(nn.Module):
    """The student with positional inputs: the task's output, then what each T-Net expects of its error."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        out = self.student(dict(zip(self.student.available, tensors, strict=True)))
        return (out.output, *(out.log_variance[name] for name in self.student.hallucinated))


def export_bundle(
    setting: Setting, students: Mapping[tuple[str, ...], Student], measured: Measured, path: Path
) -> bundle.Bundle:
    """Write the bundle into `path` whole or not at all; an earlier bundle there is replaced.

    Raises ExportError where a graph computes something else than torch, FolderInUseError where `path` holds anything
    else than a bundle.
    """
    with replacing(path, marker=MANIFEST, what="a bundle") as draft:
        _write_bundle(setting, students, measured, draft)
    return bundle.load(path)


def _write_bundle(
    setting: Setting, students: Mapping[tuple[str, ...], Student], measured: Measured, draft: Path
) -> None:
    for folder in ("graphs", "golden"):
        (draft / folder).mkdir()
    graphs = [_export_graph(setting, students[a], measured.calibrations[a], draft) for a in students]
    prevalent = sorted({name for available in students for name in available}, key=setting.config.modalities.index)
    inputs = _served_inputs(setting.config.inputs, prevalent)
    face = _copy_face_nets(draft) if inputs.face is not None else None
    provenance = _provenance(setting, measured.scores, with_face_nets=face is not None)
    (draft / "card.md").write_text(card(setting, graphs, provenance, measured.groups), encoding="utf-8")
    bundle.write(
        draft,
        {
            "name": setting.config.name,
            "task": setting.config.task,
            "levels": setting.corpus.levels,
            "values": setting.corpus.values,
            "prevalent": prevalent,
            "privileged": [name for name in setting.config.modalities if name not in prevalent],
            "inputs": inputs.model_dump(),
            "graphs": [graph.model_dump() for graph in graphs],
            "face": face.model_dump() if face else None,
            "provenance": provenance.model_dump(),
        },
    )


def _copy_face_nets(draft: Path) -> FaceNetFiles:
    face = FaceNetFiles(
        detector_short="face/detector_short.onnx",
        detector_full="face/detector_full.onnx",
        landmarks="face/landmarks.onnx",
    )
    (draft / "face").mkdir()
    for name in face.model_dump().values():
        shutil.copyfile(cached_face_nets() / Path(name).name, draft / name)
    return face


def _export_graph(setting: Setting, student: Student, calibration: Calibration, draft: Path) -> GraphSpec:
    reference = _uncertainty_reference(setting, student)
    student = student.cpu().eval()
    name = "-".join(student.available)
    file, golden = f"graphs/{name}.onnx", f"golden/{name}.npz"
    to_onnx(Graph(student), setting.config.inputs, draft / file)
    scale = tuple(student.head.std.tolist()) if isinstance(student.head, ValuesHead) else ()
    prove_equal(student, _session(draft / file), _example_windows(setting, student.available), scale)
    inputs = golden_windows(setting.config.inputs, student.available)
    with torch.no_grad():
        output = student({m: torch.from_numpy(v) for m, v in inputs.items()}).output.numpy()
    np.savez(draft / golden, allow_pickle=False, output=output, **inputs)
    return GraphSpec(
        available=student.available,
        hallucinated=student.hallucinated,
        file=file,
        inputs={m: m for m in student.available},
        output=OUTPUT,
        uncertainty={m: f"{UNCERTAINTY}{m}" for m in student.hallucinated},
        uncertainty_reference=reference,
        golden=golden,
        output_scale=scale,
        calibration=calibration,
    )


def _uncertainty_reference(setting: Setting, student: Student) -> dict[str, Moments]:
    """How the T-Nets' expected errors spread over windows of the selection people, whom no weight has seen."""
    windows = _as_shown(setting, setting.select.with_all(student.available))
    windows = windows.pick(torch.arange(0, len(windows), max(1, len(windows) // REFERENCE_WINDOWS)))
    if not student.hallucinated or not len(windows):
        return {}
    out = run_over(student.to(setting.device), windows, setting.device)
    values = {name: expected.double() for name, expected in out.log_variance.items()}
    return {
        name: Moments(mean=expected.mean().item(), std=expected.std(correction=0).item(), windows=len(windows))
        for name, expected in values.items()
        if expected.std(correction=0) > LEAST_SPREAD
    }


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
        try:
            program = torch.onnx.export(
                graph.eval(),
                example,
                input_names=list(names),
                output_names=[OUTPUT, *(f"{UNCERTAINTY}{m}" for m in graph.student.hallucinated)],
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in names),),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            said = str(error).strip().splitlines()[0]
            raise ExportError(f"{names}: an encoder of this student cannot be written as ONNX ({said})") from None
    assert program is not None  # it is None only with dynamo=False
    program.save(file)


def _example_windows(setting: Setting, available: tuple[str, ...]) -> WindowSet:
    """Real windows of training people: what the graph will meet."""
    windows = _as_shown(setting, setting.train.with_all(available))
    return windows.pick(torch.arange(17) % len(windows))


def _as_shown(setting: Setting, windows: WindowSet) -> WindowSet:
    """The same windows as the exported graph takes them, where a frozen encoder has seen them already."""
    return replace(windows, store={**windows.store, **setting.shown})


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def prove_equal(
    student: Student, session: onnxruntime.InferenceSession, examples: WindowSet, scale: Sequence[float]
) -> None:
    """ONNX equals torch at batches of 1, 3 and 17, and each window's answer is the same alone as in the batch.

    The task's output (N, C) differs in units of `scale` (C,), where it has some. Raises ExportError for what differs,
    and for what is not a number.
    """
    names = student.available
    inputs = {m: examples.tensor(m) for m in names}
    units = [np.array(scale or (1.0,)), *[np.ones(1)] * len(student.hallucinated)]
    for size in (1, 3, 17):
        tensors = {m: v[:size] for m, v in inputs.items()}
        with torch.no_grad():
            expected = [out.numpy() for out in Graph(student)(*tensors.values())]
        answers = session.run(None, {m: v.numpy() for m, v in tensors.items()})
        difference = np.max([_apart(*both) for both in zip(answers, expected, units, strict=True)])
        if not difference <= PARITY:  # NaN is no equal of anything
            raise ExportError(f"{names}: ONNX differs from torch by {difference:.2g} at a batch of {size}")
    alone = [session.run(None, {m: v[i : i + 1].numpy() for m, v in inputs.items()})[0] for i in range(17)]
    if not (difference := _apart(np.concatenate(alone), answers[0], units[0])) <= INVARIANCE:
        raise ExportError(f"{names}: an answer changes by {difference:.2g} with who shares the batch")


def _apart(answer: Floats, expected: Floats, unit: Floats) -> float:
    """The largest difference in units, less what rounding makes of numbers so far from 0 whoever computes them."""
    return float(((np.abs(answer - expected) - 2 * np.spacing(np.abs(expected))) / unit).max())


def _served_inputs(inputs: InputSpec, prevalent: list[str]) -> InputSpec:
    """Only what the bundle's graphs take."""
    return inputs.model_copy(
        update={
            "face": inputs.face if FACE in prevalent else None,
            "voice": inputs.voice if VOICE in prevalent else None,
            "signals": {m: s for m, s in inputs.signals.items() if m in prevalent},
            "features": {m: s for m, s in inputs.features.items() if m in prevalent},
        }
    )


def _provenance(setting: Setting, metrics: Mapping[str, float], *, with_face_nets: bool) -> Provenance:
    corpus, split = setting.corpus, setting.split
    counts = ", ".join(f"{count} {part}" for part, count in split.counts(corpus.clips).items())
    licences = {
        "corpus": corpus.licence,
        "weights": "Apache-2.0" if corpus.synthetic else "as the corpus's terms say; research only",
    }
    if with_face_nets:
        licences["face nets"] = "Apache-2.0 (Google: BlazeFace, face mesh)"
    return Provenance(
        trained_on=("synthetic " if corpus.synthetic else "") + corpus.name,
        synthetic=corpus.synthetic,
        protocol=f"{split.sentence}, fold {setting.config.fold} tested ({counts}), seed {setting.config.seed}",
        notes=setting.notes,
        metrics=dict(metrics),
        git_revision=revision_of(Path(__file__).parent),
        licences=licences,
    )


def revision_of(folder: Path) -> str | None:
    """The commit of the code in `folder`, ending in `-dirty` where files differ from it; None where git knows none."""
    git = shutil.which("git")
    if git is None:
        return None

    def said(*arguments: str) -> str:
        command = [git, "--no-optional-locks", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    if not said("ls-files", "."):
        return None  # installed below a repository of somebody's own
    return said("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
