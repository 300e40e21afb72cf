"""The example that turns real data sets into feature corpora: shapes, people, and nothing that looks ahead."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from training.corpora.feature_report import report
from training.corpora.features import read_npz

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "feature_corpora.py"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("feature_corpora", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "rows", "people", "shapes"),
    [
        ("ravdess", 1200, 20, {"face": (35,), "voice": (259,)}),
        ("mosi", 2199, 93, {"text": (100,), "audio": (73,), "video": (100,)}),
        ("swell", 1945, 18, {"physio": (3,), "face": (41,), "computer": (18,), "posture": (94,)}),
        ("stress_predict", 1322, 26, {"eda": (1, 240), "bvp": (1, 3840), "temp": (1, 240), "acc": (3, 1920)}),
        ("ceap", 192 * 59, 24, {"head": (24,), "gaze": (40,), "stimulus": (8,)}),
    ],
)
def test_a_data_set_becomes_a_corpus(
    example: ModuleType, name: str, rows: int, people: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    source = DATA / name / f"{name}.npz"
    if not source.is_file():
        pytest.skip(f"needs {name} of ../shared/data")

    corpus = example.convert(name, read_npz(source))

    assert (corpus.name, len(corpus), len(set(corpus.group))) == (name, rows, people)
    assert {key: values.shape[1:] for key, values in corpus.modalities.items()} == shapes
    assert set(corpus.split) == {"train", "test"}
    assert f"{rows} rows of {people} people" in "\n".join(report(corpus))


def test_means_look_back_and_leave_out_what_is_missing(example: ModuleType) -> None:
    values = np.arange(60, dtype=np.float32).reshape(1, 60, 1)  # 5 a second: 2 s are 10 steps, 5 s are 25, 10 s are 50
    values[0, 55:59] = np.nan

    rows = example.looking_back(values)[0]

    assert rows.shape == (60, 4)
    np.testing.assert_allclose(rows[0], [0, 0, 0, 0])
    np.testing.assert_allclose(rows[20], [20, (11 + 20) / 2, 10, 10])  # of 21 steps there are no 25
    np.testing.assert_allclose(rows[54], [54, (45 + 54) / 2, (30 + 54) / 2, (5 + 54) / 2])
    np.testing.assert_allclose(rows[59], [59, (50 + 51 + 52 + 53 + 54 + 59) / 6, (sum(range(35, 55)) + 59) / 21,
                                          (sum(range(10, 55)) + 59) / 46])  # fmt: skip


def test_what_comes_later_changes_no_earlier_row(example: ModuleType) -> None:
    values = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
    changed = values.copy()
    changed[:, 40:] = 9

    first, second = (example.looking_back(example.with_change(example.as_circle(v, 1))) for v in (values, changed))

    np.testing.assert_array_equal(first[:, :40], second[:, :40])


def test_sets_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "none", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert len(done.stdout.splitlines()) == 5
    assert all(line.endswith("is not there, left out") for line in done.stdout.splitlines())
    assert not (tmp_path / "out").exists()
