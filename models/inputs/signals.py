"""Physiological recordings: reading tab-separated columns, and turning each modality into a network's tensor.

EDA keeps its level on a logarithmic scale (skin conductance differs between people by factors). ECG loses its slow
wander and its unit, as its information lies in the beats' times. EMG becomes the logarithm of its envelope, as
muscle activity is the signal's power and not its sign.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.spec import SignalSpec

Signal = NDArray[np.float64]

TIME_COLUMN: Final = "time"
EDA_FLOOR_US: Final = 0.01
ECG_WANDER_S: Final = 0.8
ECG_MAX_HZ: Final = 40.0
EMG_MEAN_S: Final = 0.1
EMG_ENVELOPE_HZ: Final = 5.0


class SignalError(ValueError):
    """A biosignal file is not as expected; the message names the file and the column."""


class Biosignals(NamedTuple):
    """Columns of one recording."""

    rate_hz: float
    values: NDArray[np.float32]
    """(channels, n), in the order of the columns asked for and in the file's own units."""


def read_columns(path: Path) -> tuple[str, ...]:
    """The column names in the first line of a tab-separated file; SignalError where that is no text in UTF-8."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
    except UnicodeDecodeError:
        raise _not_text(path) from None
    if "\0" in header:  # UTF-16 without a mark, or a copy that was never filled
        raise _not_text(path)
    return tuple(name.strip() for name in header.split("\t"))


def _not_text(path: Path) -> SignalError:
    return SignalError(f"{path.name} is not text in UTF-8: expected columns separated by tabs; save it as UTF-8.")


def read_biosignals(path: Path, columns: tuple[str, ...]) -> Biosignals:
    """Read `columns` of a tab-separated file with a header and a column `time`.

    Time may be in seconds or in microseconds: its steps tell which. Raises SignalError for what is no text in UTF-8, a
    missing column, a value that is not a finite number, fewer than two lines, or times that do not rise by steps of
    either unit.
    """
    header = read_columns(path)
    for name in (TIME_COLUMN, *columns):
        if name not in header:
            raise SignalError(f"{path.name} has no column {name}: it has {', '.join(header)}, separated by tabs.")
    wanted = [header.index(name) for name in (TIME_COLUMN, *columns)]
    try:
        table = np.loadtxt(path, delimiter="\t", skiprows=1, usecols=wanted, ndmin=2, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _not_text(path) from None
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise SignalError(f"{path.name} holds something that is not a number: {reason}.") from error
    if len(table) < 2:
        raise SignalError(f"{path.name} has {len(table)} lines of values: expected at least 2.")
    for name, column in zip((TIME_COLUMN, *columns), table.T, strict=True):
        if not np.isfinite(column).all():
            line = int(np.argmin(np.isfinite(column))) + 2
            raise SignalError(f"{path.name} holds no finite number in column {name}, line {line}.")
    return Biosignals(rate_from_times(table[:, 0], path.name), np.ascontiguousarray(table[:, 1:].T, dtype=np.float32))


def rate_from_times(time: Signal, name: str) -> float:
    """Samples per second; steps under 0.2 are taken as seconds, steps of 100 and more as microseconds."""
    step = float(time[-1] - time[0]) / (len(time) - 1)
    seconds = step if 0 < step < 0.2 else step * 1e-6
    if (np.diff(time) <= 0).any() or not 1e-4 <= seconds < 0.2:
        raise SignalError(f"{name}: expected times that rise, in seconds or microseconds; their mean step is {step:g}.")
    return round(1 / seconds, 2)


def prepare_signal(
    modality: str, values: NDArray[np.float32], rate_hz: float, spec: SignalSpec, window_s: float
) -> NDArray[np.float32]:
    """Turn one window's samples into a tensor.

    `values` (channels, n) starts where the window starts; what goes beyond `window_s` is cut, and what is missing at
    the end is filled with the last value. Units: microsiemens for `eda`, microvolts for `emg`, any for `ecg`.
    Returns float32 (channels, spec.samples(window_s)): log of µS for `eda`; about -1..1, R peaks near 1, for `ecg`;
    log(1 + µV) for `emg`. Raises ValueError for another modality, no sample, or a wrong number of channels, and
    SignalError for a rate at which a window holds no sample.
    """
    if modality not in PREPARATIONS:
        raise ValueError(f"there is no preparation for {modality!r}: expected one of {', '.join(PREPARATIONS)}.")
    if values.ndim != 2 or len(values) != len(spec.channels) or values.shape[1] == 0:
        raise ValueError(f"{modality}: expected ({len(spec.channels)}, n) values with n > 0; got {values.shape}.")
    window = values[:, : round(window_s * rate_hz)]
    if not window.size:
        raise SignalError(
            f"{modality}: at its rate of {rate_hz:g} Hz a window of {window_s:g} s holds no sample; set "
            f"inputs.window_s to {1 / rate_hz:g} or more."
        )
    n = spec.samples(window_s)
    rows = [PREPARATIONS[modality](row.astype(np.float64), rate_hz, spec.rate_hz, n) for row in window]
    return np.stack(rows).astype(np.float32)


def prepare_eda(x: Signal, rate_hz: float, out_hz: float, n: int) -> Signal:
    """Low-pass, resample, logarithm."""
    return np.log(np.maximum(resample(x, rate_hz, out_hz, n), EDA_FLOOR_US))


def prepare_ecg(x: Signal, rate_hz: float, out_hz: float, n: int) -> Signal:
    """Remove the wander, low-pass, resample, divide by the 99th percentile of the magnitude."""
    steady = x - filtered(x, boxcar(ECG_WANDER_S * rate_hz))
    if rate_hz > 2.5 * ECG_MAX_HZ:
        steady = filtered(steady, lowpass_kernel(ECG_MAX_HZ / rate_hz))
    beats = resample(steady, rate_hz, out_hz, n)
    height = float(np.quantile(np.abs(beats), 0.99))
    return beats / height if height > 0 else beats


def prepare_emg(x: Signal, rate_hz: float, out_hz: float, n: int) -> Signal:
    """Remove the local mean, rectify, smooth to an envelope, resample, logarithm."""
    rectified = np.abs(x - filtered(x, boxcar(EMG_MEAN_S * rate_hz)))
    envelope = filtered(rectified, lowpass_kernel(min(EMG_ENVELOPE_HZ, 0.4 * rate_hz) / rate_hz))
    return np.log1p(np.maximum(resample(envelope, rate_hz, out_hz, n), 0.0))


PREPARATIONS: Final[Mapping[str, Callable[[Signal, float, float, int], Signal]]] = MappingProxyType(
    {"eda": prepare_eda, "ecg": prepare_ecg, "emg": prepare_emg}
)


def resample(x: Signal, rate_hz: float, out_hz: float, n: int) -> Signal:
    """`n` values of `x` at 0, 1/out_hz, ... seconds, low-passed first where the rate falls; the last value holds on."""
    if out_hz < rate_hz:
        x = filtered(x, lowpass_kernel(0.4 * out_hz / rate_hz))
    return np.interp(np.arange(n) / out_hz, np.arange(len(x)) / rate_hz, x)


def lowpass_kernel(cutoff: float) -> Signal:
    """A Hamming-windowed sinc with unit gain at 0; `cutoff` in cycles per sample, transition about half of it."""
    half = int(np.ceil(3.3 / cutoff))
    t = np.arange(-half, half + 1)
    kernel = np.sinc(2 * cutoff * t) * np.hamming(2 * half + 1)
    return np.asarray(kernel / kernel.sum(), np.float64)


def boxcar(samples: float) -> Signal:
    """A moving mean over about `samples` values, an odd number of them."""
    width = 2 * (round(samples) // 2) + 1
    return np.full(width, 1 / width)


def filtered(x: Signal, kernel: Signal) -> Signal:
    """Convolve without delay; the signal is mirrored at its ends. Same length as `x`."""
    half = len(kernel) // 2
    mirrored = np.pad(x, half, mode="symmetric")
    size = 1 << (len(mirrored) + len(kernel)).bit_length()
    spectrum = np.fft.rfft(mirrored, size) * np.fft.rfft(kernel, size)
    return np.fft.irfft(spectrum, size)[2 * half : 2 * half + len(x)]
