"""What leaves the house: a bundle that computes what torch computes, and holds nobody."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from models import bundle
from models.nets.student import Student
from training.replacing import FolderInUseError
from training.stages.calibration import calibrate
from training.stages.export import ExportError, Measured, export_bundle
from training.stages.setting import Setting

MakeSetting = Callable[[str], Setting]
Students = Mapping[tuple[str, ...], Student]


def measured(setting: Setting, students: Students, **scores: float) -> Measured:
    """Calibrations of `students`, and some scores."""
    groups: dict[str, Any] = {
        "student face": {
            "sex": {"groups": {"female": (0.4, None, 3, 15), "male": (0.5, None, 2, 10)}, "worst": "female", "gap": 0.1}
        }
    }
    return Measured({a: calibrate(setting, net, a)[0] for a, net in students.items()}, scores, groups)


@pytest.fixture
def any_face_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Face nets that find nothing, since this is not about them."""
    nets = tmp_path / "nets"
    nets.mkdir()
    for name in ("detector_short.onnx", "detector_full.onnx", "landmarks.onnx"):
        (nets / name).write_bytes(_any_onnx())
    monkeypatch.setattr("training.stages.export.cached_face_nets", lambda: nets)


@pytest.mark.usefixtures("any_face_nets")
def test_a_bundle_holds_a_graph_for_each_set_and_a_second_export_replaces_the_first(
    toy_setting: MakeSetting, tmp_path: Path
) -> None:
    setting = toy_setting("valence-arousal")
    students = {available: setting.new_student(available).eval() for available in setting.config.students}
    to = tmp_path / "bundle"

    made = export_bundle(setting, students, measured(setting, students, x=1.0), to)
    again = export_bundle(setting, students, measured(setting, students, x=2.0), to)

    assert {frozenset(g.available) for g in made.manifest.graphs} == {
        frozenset({"face"}), frozenset({"voice"}), frozenset({"face", "voice"})
    }  # fmt: skip
    assert made.manifest.graphs[0].hallucinated == ("voice",)
    assert made.manifest.graphs[0].uncertainty == {"voice": "uncertainty_voice"}
    assert bundle.load(to).version == again.version != made.version
    card = (to / "card.md").read_text()
    assert "synthetic" in card
    assert "female 0.400 (3 people, 15 items), male 0.500 (2 people, 10 items); worst female, gap 0.100" in card
    assert not to.with_name("bundle.part").exists()


def test_a_bundle_holds_no_window_of_a_participant(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("valence-arousal")
    students = {("voice",): setting.new_student(("voice",)).eval()}

    made = export_bundle(setting, students, measured(setting, students), tmp_path / "b")

    golden, output = made.golden(made.manifest.graphs[0])
    everyone = torch.cat([part.tensor("voice") for part in (setting.train, setting.select, setting.calibrate)])
    assert not any((everyone == torch.from_numpy(window)).all(dim=(1, 2)).any() for window in golden["voice"])
    assert len(np.unique(output[:, 0])) == len(output)  # another input, another output
    assert made.manifest.inputs.face is None


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_bundle_of_features_says_what_its_outputs_are(toy_setting: MakeSetting, tmp_path: Path, task: str) -> None:
    setting = toy_setting(task)
    students = {("face",): setting.new_student(("face",)).eval()}

    bundle_of_features = export_bundle(setting, students, measured(setting, students), tmp_path / "b")

    made = bundle_of_features.manifest
    _, output = bundle_of_features.golden(made.graphs[0])
    assert output.shape == (4, 5 if task == "classification" else 2)
    assert made.face is None
    assert set(made.inputs.features) == {"face"}
    assert (made.levels, made.values) == ((setting.corpus.levels, ()) if task == "classification" else ((), ("a", "b")))


def test_a_bundle_is_never_written_over_something_else(toy_setting: MakeSetting, tmp_path: Path) -> None:
    setting = toy_setting("pain")
    (tmp_path / "bundles" / "other").mkdir(parents=True)

    with pytest.raises(FolderInUseError, match="holds something else than a bundle"):
        export_bundle(setting, {}, Measured({}, {}, {}), tmp_path / "bundles")

    assert (tmp_path / "bundles" / "other").is_dir()


def test_an_export_that_computes_something_else_is_refused(
    toy_setting: MakeSetting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = toy_setting("pain")
    students = {("face",): setting.new_student(("face",)).eval()}
    found = measured(setting, students)
    monkeypatch.setattr("training.stages.export.PARITY", -1.0)

    with pytest.raises(ExportError, match="differs from torch"):
        export_bundle(setting, students, found, tmp_path / "bundle")

    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("any_face_nets")
def test_a_graph_says_how_its_expected_errors_spread_over_the_selection_people(
    toy_setting: MakeSetting, tmp_path: Path
) -> None:
    setting = toy_setting("valence-arousal")
    students = {available: setting.new_student(available).eval() for available in [("face",), ("voice",)]}
    with torch.no_grad():
        students["face",].tnet("voice").doubt[2].weight.normal_(generator=torch.Generator().manual_seed(3))

    made = export_bundle(setting, students, measured(setting, students), tmp_path / "bundle")

    varied, constant = made.manifest.graphs
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
