"""The commands that are not about one answer: what they refuse, and that finished work is not done twice."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Done, pkdot

RECIPE = ROOT / "training" / "configs" / "synthetic-pain.yaml"
Here = Callable[..., Done]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("train", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (
            ("train", RECIPE, "--set", "student.lambda=1"),
            "student.lambda: there is no such key; expected one of epochs",
        ),
        (("corpus", "check", "biovid", "nowhere"), "nowhere"),
        (("train",), "the following arguments are required"),
        (("compare", RECIPE, "--seeds", "0"), "expected a whole number of at least 1, got '0'"),
        (("demo", "--port", "99999"), "expected a port from 0 to 65535, got '99999'"),
        (("compare", RECIPE, RECIPE), "two recipes are named synthetic-pain"),
        (("train", RECIPE, "--set", "corpus.root=nowhere", "--out", "run"), "nowhere has no samples.csv"),
        (("compare", RECIPE, "--set", "corpus.root=nowhere", "--out", "run"), "nowhere has no samples.csv"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    arguments: tuple[object, ...], complaint: str, tmp_path: Path
) -> None:
    done = pkdot(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("evaluate", "nowhere"), ("export", "nowhere", "bundle")])
def test_a_folder_without_a_run_is_refused(arguments: tuple[str, ...], pkdot_here: Here, tmp_path: Path) -> None:
    done = pkdot_here(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert "holds no config.yaml" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_help_with_an_example(pkdot_here: Here, tmp_path: Path) -> None:
    for command in ("demo", "train", "evaluate", "export", "compare"):
        done = pkdot_here(command, "--help", cwd=tmp_path)
        assert (done.returncode, "example:" in done.stdout) == (0, True), command
    done = pkdot("serve", "--help", cwd=tmp_path)  # minds signals from the first moment
    assert (done.returncode, "example:" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--help",), 0, "the table of methods over seeds and folds"),
        (("compare", "--help"), 0, "rows beside the teacher"),
        (("train", RECIPE, "--set", "student.lambda=1"), 2, "student.lambda: there is no such key"),
        (("compare", "nowhere.yaml"), 2, "nowhere.yaml cannot be read"),
        (("corpus", "check", "features", "nowhere"), 2, "nowhere"),
        (("bundle", "check", "nowhere"), 1, "nowhere"),
        (("corpus", "synthesize", "features", "drawn"), 0, '"written": "drawn"'),
    ],
)
def test_help_a_drawn_corpus_and_what_is_wrong_at_first_sight_wait_for_no_torch(
    arguments: tuple[object, ...], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise AssertionError('it takes seconds')")
    before = f"{tmp_path}{os.pathsep}{ROOT}"
    done = pkdot(*arguments, cwd=tmp_path, PYTHONPATH=before)

    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr


def test_an_export_waits_for_no_statistics(tmp_path: Path) -> None:
    (tmp_path / "scipy.py").write_text("raise AssertionError('it takes a second')")
    done = pkdot("export", "nowhere", "bundle", cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")

    assert (done.returncode, "holds no config.yaml" in done.stderr) == (2, True), done.stderr


def test_a_bundle_is_checked_with_its_golden_input(pkdot_here: Here, workplace: Path) -> None:
    done = pkdot_here("bundle", "check", workplace / "bundles" / "pain", cwd=workplace)

    assert done.returncode == 0, done.stderr


def test_a_damaged_bundle_is_refused_and_the_file_is_named(pkdot_here: Here, workplace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(workplace / "bundles" / "pain", copy)
    card = copy / "card.md"
    card.write_text(card.read_text() + "better than it is\n")

    done = pkdot_here("bundle", "check", copy, cwd=tmp_path)

    assert done.returncode == 1
    assert "card.md does not match its SHA-256" in done.stderr


def test_a_run_is_not_overwritten_without_resume_and_not_repeated_with_it(pkdot_here: Here, workplace: Path) -> None:
    run = workplace / "runs" / "biovid"
    before = {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")}
    again = ["train", RECIPE, "--out", run, "--set", "corpus.root=corpora/biovid"]

    refused = pkdot_here(*again, cwd=workplace)
    other = pkdot_here(*again, "--resume", cwd=workplace)

    assert (refused.returncode, other.returncode) == (2, 2)
    assert "holds a run already" in refused.stderr
    assert "another configuration" in other.stderr
    assert {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")} == before


@pytest.fixture
def workplace_cache(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(workplace / "cache"))


@pytest.mark.usefixtures("workplace_cache")
def test_evaluating_a_run_that_was_never_trained_trains_nothing(
    pkdot_here: Here, workplace: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text((workplace / "runs" / "biovid" / "config.yaml").read_text())

    done = pkdot_here("evaluate", tmp_path, cwd=workplace)

    assert done.returncode == 2
    assert "holds no checkpoint teacher.pt" in done.stderr
    assert list(tmp_path.rglob("*.pt")) == []


@pytest.mark.usefixtures("workplace_cache")
def test_evaluate_gives_the_same_scores_again(pkdot_here: Here, workplace: Path) -> None:
    trained = json.loads((workplace / "trained.json").read_text())

    done = pkdot_here("evaluate", "runs/biovid", "--json", cwd=workplace)

    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    assert after.pop("protocol") == trained["protocol"]
    intervals = {who: own.pop("intervals") for who, own in after.items()}
    assert after == trained["test"]
    assert intervals == trained["test_intervals"]
