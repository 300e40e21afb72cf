"""The commands that are not about one answer: what they refuse, and that finished work is not done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "training" / "configs" / "synthetic-pain.yaml"


def pkdot(*arguments: object, cwd: Path, before: str = "") -> "subprocess.CompletedProcess[str]":
    """In a fresh process; modules in the folder `before` come before the installed ones."""
    environment = {**os.environ, "PYTHONPATH": f"{before}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-m", "pkdot", *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("train", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (
            ("train", RECIPE, "--set", "student.lambda=1"),
            "student.lambda: there is no such key; expected one of epochs",
        ),
        (("evaluate", "nowhere"), "holds no config.yaml"),
        (("corpus", "check", "biovid", "nowhere"), "nowhere"),
        (("train",), "the following arguments are required"),
        (("compare", RECIPE, "--seeds", "0"), "expected a whole number of at least 1, got '0'"),
        (("demo", "--port", "99999"), "expected a port from 0 to 65535, got '99999'"),
        (("compare", RECIPE, RECIPE), "two recipes are named synthetic-pain"),
        (("export", "nowhere", "bundle"), "holds no config.yaml"),
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


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    for command in ("demo", "train", "evaluate", "export", "compare", "serve"):
        done = pkdot(command, "--help", cwd=tmp_path)
        assert (done.returncode, "example:" in done.stdout) == (0, True), command


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--help",), 0, "the table of methods over seeds and folds"),
        (("compare", "--help"), 0, "rows beside the teacher"),
        (("train", RECIPE, "--set", "student.lambda=1"), 2, "student.lambda: there is no such key"),
        (("compare", "nowhere.yaml"), 2, "nowhere.yaml cannot be read"),
        (("corpus", "check", "features", "nowhere"), 2, "nowhere"),
        (("bundle", "check", "nowhere"), 1, "nowhere"),
    ],
)
def test_help_and_what_is_wrong_at_first_sight_wait_for_no_torch(
    arguments: tuple[object, ...], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise AssertionError('it takes seconds')")
    done = pkdot(*arguments, cwd=tmp_path, before=str(tmp_path))

    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr


def test_a_bundle_is_checked_with_its_golden_input(workplace: Path) -> None:
    done = pkdot("bundle", "check", workplace / "bundles" / "pain", cwd=workplace)

    assert done.returncode == 0, done.stderr


def test_a_damaged_bundle_is_refused_and_the_file_is_named(workplace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    subprocess.run(["cp", "-r", str(workplace / "bundles" / "pain"), str(copy)], check=True)
    card = copy / "card.md"
    card.write_text(card.read_text() + "better than it is\n")

    done = pkdot("bundle", "check", copy, cwd=tmp_path)

    assert done.returncode == 1
    assert "card.md does not match its SHA-256" in done.stderr


def test_a_run_is_not_overwritten_without_resume_and_not_repeated_with_it(workplace: Path) -> None:
    run = workplace / "runs" / "pain"
    before = {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")}
    again = ["train", RECIPE, "--out", run, "--set", f"corpus.root={workplace / 'biovid'}"]

    refused = pkdot(*again, cwd=workplace)
    other = pkdot(*again, "--resume", cwd=workplace)

    assert (refused.returncode, other.returncode) == (2, 2)
    assert "holds a run already" in refused.stderr
    assert "another configuration" in other.stderr
    assert {file.name: file.stat().st_mtime_ns for file in run.glob("*.pt")} == before


def test_evaluating_a_run_that_was_never_trained_trains_nothing(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((workplace / "runs" / "pain" / "config.yaml").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PKDOT_CACHE_DIR": str(workplace / "cache")}

    done = subprocess.run(
        [sys.executable, "-m", "pkdot", "evaluate", str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "holds no checkpoint teacher.pt" in done.stderr
    assert list(tmp_path.rglob("*.pt")) == []


def test_evaluate_gives_the_same_scores_again(workplace: Path) -> None:
    run = workplace / "runs" / "pain"
    before = json.loads((run / "metrics.json").read_text())["test"]
    environment_cache = workplace / "cache"

    done = subprocess.run(
        [sys.executable, "-m", "pkdot", "evaluate", str(run), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PKDOT_CACHE_DIR": str(environment_cache)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    after = json.loads(done.stdout)
    assert after.pop("protocol") == json.loads((run / "metrics.json").read_text())["protocol"]
    intervals = {who: own.pop("intervals") for who, own in after.items()}
    assert after == before
    assert intervals == json.loads((run / "metrics.json").read_text())["test_intervals"]
