"""What is wrong with a corpus or a recipe: one sentence with the file or the key, exit code 2, and nothing written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.e2e.conftest import ROOT, Done, pkdot
from training.corpora.synthetic_features import SyntheticFeatures, synthesize_features

RECIPES = ROOT / "training" / "configs"
Arrays = dict[str, np.ndarray]
Run = Callable[..., Done]


def _a_person_in_both_splits(arrays: Arrays) -> None:
    arrays["split"] = np.where(np.arange(len(arrays["label"])) < 3, "test", "train")


def _a_modality_of_another_length(arrays: Arrays) -> None:
    arrays["eda"] = arrays["eda"][:-1]


def _a_label_that_is_nan(arrays: Arrays) -> None:
    arrays["label"] = np.where(np.arange(len(arrays["label"])) == 3, np.nan, arrays["label"])


def _a_value_that_is_nan(arrays: Arrays) -> None:
    del arrays["classes"]
    arrays["task"], arrays["values"] = np.array("regression"), np.array(["pulse", "heat"])
    arrays["label"] = np.ones((len(arrays["label"]), 2), np.float32)
    arrays["label"][3, 1] = np.nan


SPOILT = {
    "a person in two splits": (_a_person_in_both_splits, "features.npz: split of person01 is test and train: expected"),
    "a modality of another length": (
        _a_modality_of_another_length, "features.npz: eda has 63 rows and label has 64: expected a row for each label",
    ),
    "a NaN among class labels": (_a_label_that_is_nan, "features.npz: label is float64 (64,): expected whole numbers"),
    "a NaN among values": (_a_value_that_is_nan, "features.npz: label is NaN in a part of row 3: expected NaN in all"),
}  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A small feature corpus outside the folder in which commands run."""
    folder = tmp_path / "corpus"
    synthesize_features(folder, SyntheticFeatures(people=8, rows_per_class=2))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder: what a refused command leaves lies there."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def spoil(corpus: Path, what: str) -> str:
    """Make the corpus wrong; returns what must be said of it."""
    change, complaint = SPOILT[what]
    with np.load(corpus / "features.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(corpus / "features.npz", **arrays)
    return complaint


def assert_refused(run: Run, complaint: str, place: Path, command: str, recipe: str, *overrides: str) -> None:
    sets = [part for override in overrides for part in ("--set", override)]

    done = run(command, RECIPES / f"{recipe}.yaml", "--out", place / "run", *sets, cwd=place)

    said = [line for line in done.stderr.splitlines() if line and "row/s]" not in line]  # without the progress bar
    assert done.returncode == 2, done.stderr
    assert len(said) == 1, done.stderr
    assert said[0].startswith("pkdot: ")
    assert complaint in said[0]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_spoilt_corpus_is_refused_before_anything_is_written(command: str, corpus: Path, place: Path) -> None:
    complaint = spoil(corpus, "a person in two splits")

    assert_refused(pkdot, complaint, place, command, "synthetic-features", f"corpus.root={corpus}")


@pytest.mark.parametrize("what", [what for what in SPOILT if what != "a person in two splits"])
def test_whatever_is_spoilt_is_refused_so(what: str, corpus: Path, place: Path, pkdot_here: Run) -> None:
    complaint = spoil(corpus, what)

    assert_refused(pkdot_here, complaint, place, "train", "synthetic-features", f"corpus.root={corpus}")


@pytest.mark.parametrize("what", ["a person in two splits", "a NaN among values"])
def test_the_check_of_a_corpus_finds_the_same(what: str, corpus: Path, place: Path, pkdot_here: Run) -> None:
    complaint = spoil(corpus, what)

    done = pkdot_here("corpus", "check", "features", corpus, cwd=place)

    assert (done.returncode, done.stderr) == (2, "pkdot: 1 of these findings are problems\n")
    assert done.stdout.startswith(f"problem: {complaint}")


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(
    ("out", "complaint"),
    [
        ("FILE/below", "FILE is not a folder; give another folder"),
        ("/proc/x", "cannot be written: nothing can be made in /proc ("),
        ("", "argument --out: expected the path of a folder, got ''"),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_before_the_corpus_is_read(
    command: str, out: str, complaint: str, tmp_path: Path, place: Path, pkdot_here: Run
) -> None:
    file = tmp_path / "file"
    file.touch()
    recipe, nowhere = RECIPES / "synthetic-features.yaml", f"corpus.root={tmp_path / 'nowhere'}"

    done = pkdot_here(command, recipe, "--out", out.replace("FILE", str(file)), "--set", nowhere, cwd=place)

    assert done.returncode == 2, done.stderr
    assert complaint.replace("FILE", str(file)) in done.stderr.splitlines()[-1]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("command", [("export", "no-run"), ("corpus", "synthesize", "features")])
def test_a_folder_below_a_file_is_named_first(
    command: tuple[str, ...], tmp_path: Path, place: Path, pkdot_here: Run
) -> None:
    file = tmp_path / "file"
    file.touch()

    done = pkdot_here(*command, file / "below", cwd=place)

    said = f"pkdot: {file} cannot be written: it is not a folder; give another folder\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_file_that_is_not_there_is_named(corpus: Path, place: Path, pkdot_here: Run) -> None:
    (corpus / "features.npz").unlink()

    complaint = f"{corpus} holds neither features.npz nor features.parquet: expected one of them"
    assert_refused(pkdot_here, complaint, place, "train", "synthetic-features", f"corpus.root={corpus}")


def test_a_clip_without_its_video_is_named(tmp_path: Path, place: Path, pkdot_here: Run) -> None:
    biovid = tmp_path / "biovid"
    biovid.mkdir()
    columns = ("subject_id", "subject_name", "class_id", "class_name", "sample_id", "sample_name")
    row = ("1", "071309_w_21", "0", "BL1", "1", "071309_w_21-BL1-081")
    (biovid / "samples.csv").write_text("\t".join(columns) + "\n" + "\t".join(row) + "\n", encoding="utf-8")

    complaint = "video/071309_w_21/071309_w_21-BL1-081.mp4 is missing: expected the clip's video"
    assert_refused(pkdot_here, complaint, place, "train", "synthetic-pain", f"corpus.root={biovid}")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_weights_of_another_network_are_refused(
    command: str, tmp_path: Path, corpus: Path, place: Path, pkdot_here: Run
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"conv1.weights": torch.zeros(64, 3, 7, 7)}, weights)

    complaint = f"{weights}: no key 'conv1.weight'; expected the weights of"
    encoder = f"network.encoders.face={{name: resnet18, weights: {weights}}}"
    assert_refused(pkdot_here, complaint, place, command, "synthetic-pain", encoder, f"corpus.root={corpus}")


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("student.apart=person", "synthetic-features.yaml: student.apart: Input should be 'sample' or 'label'"),
        (
            "calibration.few=none",
            "synthetic-features.yaml: calibration.few: there is no such key; expected one of few_people",
        ),
        ("inputs.features.face.shape=[25]", "a row of face is 24, but inputs.features.face says 25"),
        (
            "calibration={few_people: out-of-fold, parts: 30}",
            "calibration.parts is 30, but there are only 4 training people to leave out",
        ),
    ],
)
def test_a_key_that_is_not_there_or_does_not_fit_is_named(
    override: str, complaint: str, corpus: Path, place: Path, pkdot_here: Run
) -> None:
    small = ("student={k: 4, batch: 8}", f"corpus.root={corpus}")
    assert_refused(pkdot_here, complaint, place, "train", "synthetic-features", *small, override)
