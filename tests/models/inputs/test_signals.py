from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.inputs.signals import SignalError, prepare_signal, read_biosignals, read_columns
from models.spec import SignalSpec

RATE_HZ = 512.0
TIME_S = np.arange(2816) / RATE_HZ  # 5.5 s


def spec(rate_hz: float, channels: int = 1) -> SignalSpec:
    return SignalSpec(channels=tuple(f"c{index}" for index in range(channels)), rate_hz=rate_hz)


def prepared(modality: str, x: NDArray[np.float64], rate_hz: float) -> NDArray[np.float32]:
    return prepare_signal(modality, x[None].astype(np.float32), RATE_HZ, spec(rate_hz), 5.5)[0]


def table(path: Path, time: NDArray[np.float64], header: str = "time\tgsr\tecg") -> Path:
    rows = [f"{t:.6f}\t{index}\t{-index}" for index, t in enumerate(time)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_time_may_be_in_seconds_or_microseconds(tmp_path: Path, unit: float) -> None:
    signals = read_biosignals(table(tmp_path / "a_bio.csv", TIME_S * unit), ("ecg", "gsr"))

    assert signals.rate_hz == pytest.approx(512, abs=0.05)
    assert signals.values.dtype == np.float32
    np.testing.assert_array_equal(signals.values[:, :3], [[0, -1, -2], [0, 1, 2]])  # in the order asked for


def test_the_header_lists_the_columns(tmp_path: Path) -> None:
    assert read_columns(table(tmp_path / "a_bio.csv", TIME_S)) == ("time", "gsr", "ecg")


def test_a_missing_column_is_named_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match=r"a_bio\.csv has no column emg_trapezius: it has time, gsr, ecg"):
        read_biosignals(table(tmp_path / "a_bio.csv", TIME_S), ("gsr", "emg_trapezius"))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("0\t1\n1953\tnan\n3906\t1\n", r"a_bio\.csv holds no finite number in column gsr, line 3"),
        ("0\t1\n1953\tbroken\n", r"a_bio\.csv holds something that is not a number: .*[^.]\.$"),
        ("0\t1\n", r"a_bio\.csv has 1 lines of values: expected at least 2"),
        ("0\t1\n1953\t1\n1953\t1\n", r"a_bio\.csv: expected times that rise"),
        (
            "0\t1\n1\t1\n2\t1\n",
            r"a_bio\.csv: expected times that rise, in seconds or microseconds; their mean step is 1",
        ),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, body: str, sentence: str) -> None:
    path = tmp_path / "a_bio.csv"
    path.write_text("time\tgsr\n" + body)

    with pytest.raises(SignalError, match=sentence):
        read_biosignals(path, ("gsr",))


@pytest.mark.parametrize(
    "content",
    [
        "time\tgsr\n0\t1\n1953\t2\n".encode("utf-16"),
        "time\tgsr\n0\t1\n1953\t2\n".encode("utf-16-le"),  # without a mark it reads as UTF-8 full of zeros
        bytes(5000),
        b"\x89PNG\r\n\x1a\n\xff\xfe",
        b"time\tgsr\n" + b"0\t1\n" * 5000 + b"1953\t2\xb5\n",  # far below the header
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a_bio.csv"
    path.write_bytes(content)

    with pytest.raises(SignalError) as caught:
        read_biosignals(path, ("gsr",))

    assert str(caught.value) == (
        "a_bio.csv is not text in UTF-8: expected columns separated by tabs; save it as UTF-8."
    )


@pytest.mark.parametrize("modality", ["eda", "ecg", "emg"])
@pytest.mark.parametrize(("seconds", "rate_hz"), [(0.01, 16.0), (2.0, 16.0), (5.5, 100.0), (9.0, 33.3)])
def test_a_tensor_has_the_specs_shape_whatever_came(modality: str, seconds: float, rate_hz: float) -> None:
    values = np.random.default_rng(0).uniform(1, 2, (2, max(1, round(seconds * RATE_HZ)))).astype(np.float32)

    tensor = prepare_signal(modality, values, RATE_HZ, spec(rate_hz, channels=2), 5.5)

    assert tensor.shape == (2, round(5.5 * rate_hz))
    assert tensor.dtype == np.float32
    assert np.isfinite(tensor).all()


def test_what_is_missing_at_the_end_holds_the_last_value() -> None:
    tensor = prepare_signal("eda", np.full((1, 512), 4.0, np.float32), RATE_HZ, spec(8), 3.0)

    np.testing.assert_allclose(tensor, np.log(4.0), atol=1e-5)


def test_what_lies_beyond_the_window_does_not_matter() -> None:
    values = np.random.default_rng(0).uniform(1, 2, (1, 2816)).astype(np.float32)
    changed = values.copy()
    changed[:, 1024:] = 50

    for modality in ("eda", "ecg", "emg"):
        first, second = (prepare_signal(modality, x, RATE_HZ, spec(32), 2.0) for x in (values, changed))
        np.testing.assert_array_equal(first, second)


def test_eda_is_the_logarithm_of_the_slow_level() -> None:
    slow = 5 + 0.5 * np.sin(2 * np.pi * 0.3 * TIME_S)
    mains = 0.5 * np.sin(2 * np.pi * 50 * TIME_S)

    tensor = prepared("eda", slow + mains, 16)

    expected = np.log(np.interp(np.arange(88) / 16, TIME_S, slow))
    np.testing.assert_allclose(tensor[8:-8], expected[8:-8], atol=0.01)


def test_a_dead_electrode_gives_a_finite_tensor() -> None:
    for modality in ("eda", "ecg", "emg"):
        assert np.isfinite(prepared(modality, 0 * TIME_S, 32)).all()


def test_ecg_keeps_the_beats_and_loses_wander_and_unit() -> None:
    peaks_s = np.arange(0.5, 5.5, 0.8)
    beats = sum(np.exp(-0.5 * ((TIME_S - peak) / 0.012) ** 2) for peak in peaks_s)
    wander = 3 * np.sin(2 * np.pi * 0.2 * TIME_S) + 40

    millivolts, microvolts = (prepared("ecg", unit * (beats + wander), 128) for unit in (1.0, 1000.0))

    np.testing.assert_allclose(millivolts, microvolts, atol=1e-3)
    found = np.flatnonzero(
        (millivolts[1:-1] > 0.5) & (millivolts[1:-1] >= millivolts[:-2]) & (millivolts[1:-1] > millivolts[2:])
    )
    np.testing.assert_allclose((found + 1) / 128, peaks_s, atol=0.01)
    assert 0.8 < millivolts.max() < 1.3


def test_emg_is_the_logarithm_of_the_envelope() -> None:
    noise = np.random.default_rng(0).standard_normal(2816)
    burst = np.where((TIME_S > 2) & (TIME_S < 4), 30.0, 5.0)

    tensor = prepared("emg", burst * noise + 100, 16)

    quiet, active = tensor[8:24].mean(), tensor[38:58].mean()
    mean_magnitude = np.sqrt(2 / np.pi)  # of Gaussian noise
    assert active == pytest.approx(np.log1p(30 * mean_magnitude), abs=0.25)
    assert quiet == pytest.approx(np.log1p(5 * mean_magnitude), abs=0.25)


def test_a_faster_tensor_than_the_recording_is_interpolated() -> None:
    slow = np.linspace(1, 3, 23)  # 4 Hz

    tensor = prepare_signal("eda", slow[None].astype(np.float32), 4.0, spec(8), 5.5)[0]

    np.testing.assert_allclose(tensor[::2][:22], np.log(slow[:22]), atol=1e-5)


@pytest.mark.parametrize(
    ("modality", "values", "sentence"),
    [
        ("bvp", np.ones((1, 512), np.float32), "no preparation for 'bvp': expected one of eda, ecg, emg"),
        ("eda", np.ones((2, 512), np.float32), r"expected \(1, n\) values"),
        ("eda", np.ones((1, 0), np.float32), r"expected \(1, n\) values with n > 0"),
    ],
)
def test_what_cannot_be_prepared_is_refused(modality: str, values: NDArray[np.float32], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        prepare_signal(modality, values, RATE_HZ, spec(16), 5.5)


def test_a_rate_at_which_a_window_holds_no_sample_is_one_sentence() -> None:
    one_second = np.ones((1, 5), np.float32)

    with pytest.raises(
        SignalError,
        match=r"^eda: at its rate of 5 Hz a window of 0\.08 s holds no sample; set inputs\.window_s to 0\.2 or more\.$",
    ):
        prepare_signal("eda", one_second, 5.0, spec(100), 0.08)
