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
        ("stress_minutes", 1322, 26, {"eda": (6,), "bvp": (9,), "acc": (21,)}),
        ("ceap", 192 * 59, 24, {"head": (24,), "gaze": (40,), "stimulus": (8,)}),
    ],
)
def test_a_data_set_becomes_a_corpus(
    example: ModuleType, name: str, rows: int, people: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    source = DATA / example.SOURCES[name] / f"{example.SOURCES[name]}.npz"
    if not source.is_file():
        pytest.skip(f"needs {example.SOURCES[name]} of ../shared/data")

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


def test_a_minute_of_pulse_is_told_by_its_rate(example: ModuleType) -> None:
    time_s = np.arange(3840) / 64
    steady = np.sin(2 * np.pi * 1.2 * time_s)
    faster = np.where(time_s < 30, steady, np.sin(2 * np.pi * 2.0 * time_s))
    noise = np.random.default_rng(0).normal(size=3840)

    rate_hz, share, variation_hz = example.pulse(np.stack([steady, faster, noise]).astype(np.float32), 64).T

    np.testing.assert_allclose(rate_hz[0], 1.2, atol=0.02)
    assert share[0] > 0.6 > 0.1 > share[2]
    np.testing.assert_allclose(variation_hz[:2], [0, 0.4], atol=0.04)


def test_the_power_of_motion_lies_in_the_band_of_its_frequency(example: ModuleType) -> None:
    time_s = np.arange(1920) / 32
    shaking = 5 + np.stack([np.sin(2 * np.pi * hz * time_s) for hz in (0.3, 0.7, 1.5, 3.0, 6.0)])

    powers = example.band_powers(shaking.astype(np.float32), 32)

    np.testing.assert_array_equal(powers.argmax(axis=1), range(5))


def test_a_ramp_in_numbers(example: ModuleType) -> None:
    ramp = np.linspace(1, 3, 240, dtype=np.float32)[None]

    (numbers,) = example.in_numbers(ramp)

    np.testing.assert_allclose(numbers, [2, ramp.std(), 1, 3, 1, 2 / 239], rtol=1e-4)


def test_sets_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "none", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert len(done.stdout.splitlines()) == 6
    assert all(line.endswith("is not there, left out") for line in done.stdout.splitlines())
    assert not (tmp_path / "out").exists()
