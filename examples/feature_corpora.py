"""Real data sets, each one npz, as feature corpora: `python examples/feature_corpora.py DATA OUT`.

DATA holds ravdess/ravdess.npz, mosi/mosi.npz, swell/swell.npz, stress_predict/stress_predict.npz and ceap/ceap.npz; a
set that is not there is left out. OUT gets an npz for each. What tells the label without being measured on the person,
such as the minute of the session or the film's name, becomes no modality. Several of the sets are non-commercial.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.corpora.clip import CorpusError
from training.corpora.feature_corpus import FeatureCorpus, from_arrays
from training.corpora.features import read_npz, write_features

Arrays = Mapping[str, NDArray[Any]]

STEP_HZ = 5
"""Of CEAP's sequences; a row is made for every second."""
LOOK_BACK_S = (2, 5, 10)
"""Over how long CEAP's features are averaged, up to now."""
G_PER_UNIT = 1 / 64
"""Of the accelerometer in Stress-Predict."""
PULSE_HZ = (0.7, 3.0)
BANDS_HZ = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Edges of the bands in which the power of motion is told."""
PARTS = 4
"""Of a minute, for how the pulse's rate varies within it."""


def ravdess(data: Arrays) -> dict[str, Any]:
    """Eight acted emotions: the face is privileged, the voice is there in the field."""
    return {
        "task": "classification",
        "classes": data["emotion_names"],
        "licence": "RAVDESS (Livingstone and Russo 2018), CC BY-NC-SA 4.0.",
        "label": data["emotion"],
        "group": data["actor"],
        "group_sex": np.where(data["male"], "male", "female"),
        "clip": data["clip"],
        "split": data["split"],
        "face": data["face"],
        "voice": data["voice"],
    }


def mosi(data: Arrays) -> dict[str, Any]:
    """Sentiment of utterances in the published split by video: the text is privileged."""
    return {
        "task": "classification",
        "classes": ["negative", "positive"],
        "licence": "CMU-MOSI (Zadeh et al. 2016), features for research.",
        "label": data["label"],
        "group": data["group"],
        "clip": data["utterance"],
        "split": np.where(data["test"], "test", "train"),
        **{name: data[name] for name in ("text", "audio", "video")},
    }


def swell(data: Arrays) -> dict[str, Any]:
    """Normal work, which always came first, against time pressure and interruptions: physiology is privileged."""
    working = data["condition"] != "R"
    rows = {name: values[working] for name, values in data.items() if len(values) == len(working)}
    return {
        "task": "classification",
        "classes": ["early work", "later work"],
        "licence": "SWELL-KW (Koldijk et al. 2014), CC BY-NC-SA 4.0.",
        "label": np.where(rows["condition"] == "N", 0, 1),
        "group": rows["subject"],
        "split": rows["split"],
        **{name: rows[name] for name in ("physio", "face", "computer", "posture")},
    }


def stress_predict(data: Arrays) -> dict[str, Any]:
    """Stress tasks against rest in raw wrist signals: skin conductance is privileged."""
    return {
        "task": "classification",
        "classes": ["rest", "stress"],
        "licence": "Stress-Predict (Iqbal et al. 2022), MIT.",
        "label": data["stress"],
        "group": data["subject"],
        "split": data["split"],
        **{name: data[name][:, None].astype(np.float32) for name in ("eda", "bvp", "temp")},
        "acc": data["acc"].transpose(0, 2, 1).astype(np.float32) * np.float32(G_PER_UNIT),
    }


def stress_minutes(data: Arrays) -> dict[str, Any]:
    """The same minutes in a few numbers for each signal, as the field does where people are few."""
    signals = stress_predict(data)
    motion = signals["acc"] - signals["acc"].mean(axis=2, keepdims=True)  # without gravity
    return {
        **{name: signals[name] for name in ("task", "classes", "licence", "label", "group", "split")},
        "eda": in_numbers(signals["eda"][:, 0]),
        "bvp": np.concatenate([in_numbers(signals["bvp"][:, 0]), pulse(signals["bvp"][:, 0], 64)], axis=1),
        "acc": np.concatenate(
            [in_numbers(np.linalg.norm(motion, axis=1)), *(band_powers(motion[:, axis], 32) for axis in range(3))],
            axis=1,
        ),
    }


def in_numbers(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, L) to (N, 6): mean, standard deviation, least, most, slope, and mean change from sample to sample."""
    x = signal.astype(np.float64)
    time = np.linspace(-1, 1, x.shape[1])
    slope = x @ time / (time @ time)
    change = np.abs(np.diff(x, axis=1)).mean(axis=1)
    columns = [x.mean(axis=1), x.std(axis=1), x.min(axis=1), x.max(axis=1), slope, change]
    return np.stack(columns, axis=1).astype(np.float32)


def pulse(bvp: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """(N, L) to (N, 3): the pulse's rate in Hz, its share of the power, and how its rate differs among parts."""
    rate, share = strongest(bvp, rate_hz)
    parts = [strongest(part, rate_hz)[0] for part in np.split(bvp, PARTS, axis=1)]
    return np.stack([rate, share, np.std(parts, axis=0)], axis=1).astype(np.float32)


def strongest(bvp: NDArray[np.float32], rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, L) to the strongest frequency where a pulse can be, (N,) in Hz, and its share of the power there, (N,)."""
    frequency, power = spectrum(bvp, rate_hz)
    within = (frequency >= PULSE_HZ[0]) & (frequency <= PULSE_HZ[1])
    frequency, power = frequency[within], power[:, within]
    return frequency[power.argmax(axis=1)], power.max(axis=1) / np.maximum(power.sum(axis=1), 1e-12)


def band_powers(signal: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """(N, L) to (N, 5): the logarithm of the power in each band."""
    frequency, power = spectrum(signal, rate_hz)
    sums = [power[:, (frequency >= low) & (frequency < high)].sum(axis=1) for low, high in itertools.pairwise(BANDS_HZ)]
    return np.log(np.stack(sums, axis=1) + 1e-9).astype(np.float32)


def spectrum(signal: NDArray[np.float32], rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, L) to frequencies (F,) in Hz and powers (N, F), Hann window, without the mean."""
    x = signal.astype(np.float64)
    x = (x - x.mean(axis=1, keepdims=True)) * np.hanning(x.shape[1])
    frequency = np.fft.rfftfreq(x.shape[1], 1 / rate_hz).astype(np.float64)
    return frequency, np.square(np.abs(np.fft.rfft(x, axis=1))) / x.shape[1]


def ceap(data: Arrays) -> dict[str, Any]:
    """Valence and arousal each second of a film: its luminance is privileged, head and gaze are there in the field."""
    every = np.arange(STEP_HZ - 1, data["va"].shape[1], STEP_HZ)
    clips = len(data["va"])
    subject, video, split = (np.repeat(data[name], len(every)) for name in ("subject", "video", "split"))
    end_s = np.tile(data["time_s"][every].astype(np.float64), clips)
    seen = {"head": as_circle(data["head"], 1), "gaze": as_circle(data["gaze"], 2), "stimulus": data["stimulus"]}
    return {
        "task": "valence-arousal",
        "licence": "CEAP-360VR (Xue et al. 2021), CC BY-NC-SA 4.0.",
        "label": ((data["va"][:, every] - 5) / 4).reshape(-1, 2),
        "group": subject,
        "clip": [f"{s}-{v}" for s, v in zip(subject, video, strict=True)],
        "split": split,
        "time_s": np.stack([end_s - 1, end_s], axis=1),
        **{
            name: looking_back(with_change(values))[:, every].reshape(len(subject), -1) for name, values in seen.items()
        },
    }


def as_circle(values: NDArray[np.float32], yaw: int) -> NDArray[np.float32]:
    """(S, L, F) to (S, L, F + 1): the yaw in that column, which counts turns in degrees, as sine and cosine."""
    angle = np.radians(values[..., yaw : yaw + 1])
    return np.concatenate([np.delete(values, yaw, axis=2), np.sin(angle), np.cos(angle)], axis=2)


def with_change(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, L, F) to (S, L, 2 F): each value, and how much it has changed since the last step."""
    return np.concatenate([values, np.abs(np.diff(values, axis=1, prepend=values[:, :1]))], axis=2)


def looking_back(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, L, F) to (S, L, 4 F): each value, and its means over the last 2, 5 and 10 s without the missing ones."""
    there = np.isfinite(values)
    sums = np.cumsum(np.where(there, values, 0), axis=1, dtype=np.float64)
    counts = np.cumsum(there, axis=1)
    parts = [values.astype(np.float64)]
    for steps in (seconds * STEP_HZ for seconds in LOOK_BACK_S):
        total, n = sums.copy(), counts.copy()
        total[:, steps:] -= sums[:, :-steps]
        n[:, steps:] -= counts[:, :-steps]
        parts.append(np.where(n > 0, total / np.maximum(n, 1), np.nan))
    return np.concatenate(parts, axis=2).astype(np.float32)


SETS: dict[str, Callable[[Arrays], dict[str, Any]]] = {
    "ravdess": ravdess,
    "mosi": mosi,
    "swell": swell,
    "stress_predict": stress_predict,
    "stress_minutes": stress_minutes,
    "ceap": ceap,
}
SOURCES = {name: name for name in SETS} | {"stress_minutes": "stress_predict"}


def convert(name: str, data: Arrays) -> FeatureCorpus:
    """One data set as a feature corpus."""
    arrays = {key: np.asarray(value) for key, value in SETS[name](data).items()}
    return from_arrays({**arrays, "name": np.array(name)}, f"{name}.npz", name, synthetic=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", type=Path, help="the folder of the data sets")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the feature corpora are written")
    arguments = parser.parse_args()
    for name in SETS:
        source = arguments.data / SOURCES[name] / f"{SOURCES[name]}.npz"
        if not source.is_file():
            print(f"{name}: {source} is not there, left out")
            continue
        try:
            corpus = convert(name, read_npz(source))
            write_features(arguments.out / f"{name}.npz", corpus)
        except CorpusError as error:
            print(error, file=sys.stderr)
            return 2
        shapes = ", ".join(f"{key} {values.shape[1:]}" for key, values in corpus.modalities.items())
        print(f"{name}: {corpus.task}, {len(corpus)} rows of {len(set(corpus.group))} people, {shapes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
