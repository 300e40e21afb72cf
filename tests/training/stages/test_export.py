"""What leaves the house: a bundle that computes what torch computes, and holds nobody."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from models import bundle
from models.nets.student import Student
from tests.training.conftest import make_toy_setting
from training.files.replacing import FolderInUseError
from training.stages.calibration import calibrate
from training.stages.export import ExportError, Graph, Measured, export_bundle, prove_equal, revision_of
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]
OfFeatures = Callable[[str], tuple[Setting, bundle.Bundle]]
Students = Mapping[tuple[str, ...], Student]


def measured(setting: Setting, students: Students, **scores: float) -> Measured:
    """Calibrations of `students`, and some scores."""
    groups: dict[str, Any] = {
        "student face": {
            "sex": {"groups": {"female": (0.4, None, 3, 15), "male": (0.5, None, 2, 10)}, "worst": "female", "gap": 0.1}
        }
    }
    return Measured({a: calibrate(setting, net, a)[0] for a, net in students.items()}, scores, groups)


class Exported(NamedTuple):
    """A bundle with a graph for each set of valence-arousal, and one of the voice alone that replaced a copy of it."""

    setting: Setting
    made: bundle.Bundle
    again: bundle.Bundle


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Read only: tests share it, since writing a graph takes seconds. Its face nets find nothing."""
    place = tmp_path_factory.mktemp("exported")
    (place / "nets").mkdir()
    for name in ("detector_short.onnx", "detector_full.onnx", "landmarks.onnx"):
        (place / "nets" / name).write_bytes(_any_onnx())
    setting = make_toy_setting("valence-arousal", place)
    students = {available: setting.new_student(available).eval() for available in setting.config.students}
    with torch.no_grad():  # the face's expects another error of each window, as a trained one does
        students["face",].tnet("voice").doubt[2].weight.normal_(generator=torch.Generator().manual_seed(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.stages.export.cached_face_nets", lambda: place / "nets")
        made = export_bundle(setting, students, measured(setting, students), place / "made")
        shutil.copytree(place / "made", place / "again")
        fewer = {("voice",): students["voice",]}
        scores = {"ccc_mean": -0.00045678, "rmse_valence": 0.25, "rmse_arousal": 1234.5, "frames": 1250.0}
        again = export_bundle(setting, fewer, measured(setting, fewer, **scores), place / "again")
    return Exported(setting, made, again)


def test_a_bundle_holds_a_graph_for_each_set_and_a_second_export_replaces_the_first(exported: Exported) -> None:
    made, again = exported.made, exported.again
    to = again.path

    assert {frozenset(g.available) for g in made.manifest.graphs} == {
        frozenset({"face"}), frozenset({"voice"}), frozenset({"face", "voice"})
    }  # fmt: skip
    assert made.manifest.graphs[0].hallucinated == ("voice",)
    assert made.manifest.graphs[0].uncertainty == {"voice": "uncertainty_voice"}
    assert set(made.manifest.provenance.licences) == {"corpus", "weights", "face nets"}
    assert bundle.load(to).version == again.version != made.version
    assert sorted(file.name for file in (to / "graphs").iterdir()) == ["voice.onnx"]
    card = (to / "card.md").read_text()
    assert "synthetic" in card
    assert "female 0.400 (3 people, 15 items), male 0.500 (2 people, 10 items); worst female, gap 0.100" in card
    shown = {"ccc_mean": "-0.000457", "rmse_valence": "0.250", "rmse_arousal": "1234", "frames": "1250"}
    assert [f"| {name} | {value} |" in card for name, value in shown.items()] == [True] * 4
    assert not to.with_name(f"{to.name}.part").exists()


def test_a_bundle_holds_no_window_of_a_participant(exported: Exported) -> None:
    setting, made = exported.setting, exported.again

    golden, output = made.golden(made.manifest.graphs[0])
    everyone = torch.cat([part.tensor("voice") for part in (setting.train, setting.select, setting.calibrate)])
    assert not any((everyone == torch.from_numpy(window)).all(dim=(1, 2)).any() for window in golden["voice"])
    assert len(np.unique(output[:, 0])) == len(output)  # another input, another output
    assert made.manifest.inputs.face is None


@pytest.fixture(scope="module")
def of_features(tmp_path_factory: pytest.TempPathFactory) -> OfFeatures:
    """`of_features(task)`: a setting whose corpus has a note, without a label of the last class in training, or with
    values of some 50,000; and its bundle. Read only."""

    @cache
    def make(task: str) -> tuple[Setting, bundle.Bundle]:
        place = tmp_path_factory.mktemp(task)
        toy = make_toy_setting(task, place)
        setting = toy if task == "classification" else with_values(toy, 1e4, 5e4)
        if task == "classification":
            setting = replace(toy, train=toy.train.with_labels_of(toy.train.targets != 4))
        setting = replace(setting, corpus=replace(setting.corpus, notes=("Facial EMG is used.",)))
        students = {("face",): setting.new_student(("face",)).eval()}
        return setting, export_bundle(setting, students, measured(setting, students), place / "b")

    return make


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_bundle_of_features_says_what_its_outputs_are(of_features: OfFeatures, task: str) -> None:
    setting, bundle_of_features = of_features(task)

    made = bundle_of_features.manifest
    _, output = bundle_of_features.golden(made.graphs[0])
    assert output.shape == (4, 5 if task == "classification" else 2)
    assert made.face is None
    assert set(made.provenance.licences) == {"corpus", "weights"}
    assert set(made.inputs.features) == {"face"}
    assert (made.levels, made.values) == ((setting.corpus.levels, ()) if task == "classification" else ((), ("a", "b")))


def with_values(setting: Setting, factor: float, shift: float) -> Setting:
    """The setting with targets in other units."""
    parts = {name: getattr(setting, name) for name in ("train", "select", "calibrate", "test")}
    changed = {name: replace(own, targets=factor * own.targets + shift) for name, own in parts.items()}
    return replace(setting, **changed)


def test_a_bundle_of_values_is_checked_in_standard_deviations(
    of_features: OfFeatures,
) -> None:
    setting, made = of_features("regression")

    (graph,) = made.manifest.graphs
    output, std = made.golden(graph)[1].astype(np.float64), setting.train.targets.std(dim=0, correction=0).numpy()
    assert graph.output_scale == pytest.approx(std.tolist(), rel=1e-5)
    assert abs(output.mean() - 5e4) < 10 * std.max()
    assert bundle.check_golden(made, lambda *_: output + 5e-4 * std) == pytest.approx(5e-4, rel=0.01)
    with pytest.raises(bundle.BundleError, match=r"the golden output differs by 0\.002"):
        bundle.check_golden(made, lambda *_: output + 2e-3 * std)


class Runtime:
    """Torch in the place of a runtime, whose output is off by `off`, and by `alone` too for a window by itself."""

    def __init__(self, student: Student, off: NDArray[np.float64], alone: float = 0.0) -> None:
        self.student, self.off, self.alone = student, off, alone

    def run(self, _: None, inputs: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        with torch.no_grad():
            output, *others = (out.numpy() for out in Graph(self.student)(*map(torch.from_numpy, inputs.values())))
        off = self.off + self.alone if len(output) == 1 else self.off
        return [(output + off).astype(np.float32), *others]


def prove(setting: Setting, off: float, alone: float = 0.0) -> None:
    """A new student against itself, off by so many standard deviations, and by `alone` for a window by itself."""
    student, examples = setting.new_student(("face",)).eval(), setting.train.pick(torch.arange(17))
    std = student.head.std.double().numpy()
    prove_equal(student, Runtime(student, off * std, alone), examples, tuple(std))  # type: ignore[arg-type]


@pytest.mark.parametrize(("factor", "shift", "wrong"), [(1e4, 5e4, 2e-4), (1e-2, 37.0, 1e-2), (1e-6, 0.0, 2e-4)])
def test_onnx_equals_torch_to_a_share_of_a_standard_deviation(
    toy_setting: MakeSetting, factor: float, shift: float, wrong: float
) -> None:
    setting = with_values(toy_setting("regression"), factor, shift)

    prove(setting, off=5e-5, alone=float(np.spacing(np.float32(shift))))  # numbers so large are rounded so
    with pytest.raises(ExportError, match="ONNX differs from torch"):
        prove(setting, off=wrong)


def test_a_runtime_that_says_no_number_does_not_equal_torch(toy_setting: MakeSetting) -> None:
    setting = toy_setting("regression")

    with pytest.raises(ExportError, match="ONNX differs from torch by nan at a batch of 1"):
        prove(setting, off=np.nan)
    with pytest.raises(ExportError, match="ONNX differs from torch by nan at a batch of 1"):
        prove(setting, off=0.0, alone=np.nan)


@pytest.mark.parametrize(("factor", "shift"), [(1e4, 5e4), (1e-6, 0.0)])
def test_an_answer_is_the_same_in_any_batch_to_a_share_of_a_standard_deviation(
    toy_setting: MakeSetting, factor: float, shift: float
) -> None:
    setting = with_values(toy_setting("regression"), factor, shift)
    std = float(setting.train.targets.std(correction=0))

    prove(setting, off=0.0, alone=5e-6 * std)
    with pytest.raises(ExportError, match=r"an answer changes by .* with who shares the batch"):
        prove(setting, off=0.0, alone=5e-5 * std)


def test_a_manifest_holds_the_notes_of_the_protocol(
    of_features: OfFeatures,
) -> None:
    _, made = of_features("classification")

    first, second = made.manifest.provenance.notes
    assert first == "Facial EMG is used."
    assert second.startswith("In seed 0, fold 0 no labelled training window is 'PA4', but test windows are: it cannot")
    assert f"- {first}\n- {second}\n" in (made.path / "card.md").read_text()


def test_a_revision_is_of_the_code_itself_and_says_where_that_has_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("a = 1")
    (tmp_path / "installed").mkdir()
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "--annotate", "v1", "--message", "v1")

    assert revision_of(tmp_path / "code") == git("rev-parse", "HEAD")
    (tmp_path / "code" / "a.py").write_text("a = 2")
    (tmp_path / "installed" / "a.py").write_text("a = 2")
    assert revision_of(tmp_path / "code") == git("rev-parse", "HEAD") + "-dirty"
    assert revision_of(tmp_path / "installed") is None


def test_a_bundle_is_never_written_over_something_else(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("pain")
    (tmp_path / "bundles" / "other").mkdir(parents=True)

    with pytest.raises(FolderInUseError, match="holds something else than a bundle"):
        export_bundle(setting, {}, Measured({}, {}, {}), tmp_path / "bundles")

    assert (tmp_path / "bundles" / "other").is_dir()


def test_an_export_that_computes_something_else_is_refused(
    toy_setting: MakeSetting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = toy_setting("classification")
    students = {("face",): setting.new_student(("face",)).eval()}
    found = measured(setting, students)
    monkeypatch.setattr("training.stages.export.PARITY", -1.0)

    with pytest.raises(ExportError, match="differs from torch"):
        export_bundle(setting, students, found, tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


def test_a_graph_says_how_its_expected_errors_spread_over_the_selection_people(exported: Exported) -> None:
    setting, made = exported.setting, exported.made

    varied, constant, _ = made.manifest.graphs
    session = onnxruntime.InferenceSession(made.file(varied.file), providers=["CPUExecutionProvider"])
    windows = setting.select.with_all(["face"])
    (said,) = session.run([varied.uncertainty["voice"]], {varied.inputs["face"]: windows.tensor("face").numpy()})
    reference = varied.uncertainty_reference["voice"]
    assert reference.windows == len(windows) == len(said)
    assert (reference.mean, reference.std) == pytest.approx((said.mean(), said.std()), rel=1e-3)
    assert constant.uncertainty_reference == {}


def _any_onnx() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "any", [value], [out])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
