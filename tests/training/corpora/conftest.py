"""Corpora small enough for every test run: drawn ones once a session, hand-written ones by function."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.corpora.affect_model import SyntheticAffect
from training.corpora.pain_model import SyntheticPain
from training.corpora.synthetic import synthesize_affwild2, synthesize_biovid

from .bids_set import EVENTS, RATE_HZ, START_S, ramps

SAMPLES_HEADER = "subject_id\tsubject_name\tclass_id\tclass_name\tsample_name"
BIOSIGNALS = "time\tgsr\tecg\temg_trapezius\n0\t5.1\t10.0\t-3.0\n1953\t5.2\t11.0\t2.5\n3906\t5.3\t9.0\t-1.0\n"


@pytest.fixture(scope="session")
def pain_settings() -> SyntheticPain:
    return SyntheticPain(seed=7, people=3, clips_per_class=1, picture_px=128)


@pytest.fixture(scope="session")
def affect_settings() -> SyntheticAffect:
    return SyntheticAffect(seed=7, videos=3, validation_videos=1, video_s=6.0, picture_px=128, unlabelled_share=0.1)


@pytest.fixture(scope="session")
def drawn_pain(tmp_path_factory: pytest.TempPathFactory, pain_settings: SyntheticPain) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "pain"
    synthesize_biovid(root, pain_settings, workers=1)
    return root


@pytest.fixture(scope="session")
def drawn_affect(tmp_path_factory: pytest.TempPathFactory, affect_settings: SyntheticAffect) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "affect"
    synthesize_affwild2(root, affect_settings, workers=1)
    return root


@pytest.fixture
def biovid(tmp_path: Path) -> Callable[..., Path]:
    """Write a corpus of BioVid's shape: a line and two files for each (subject, class, sample)."""

    def write(
        rows: Sequence[tuple[str, str, str]], *, header: str = SAMPLES_HEADER, biosignals: str = BIOSIGNALS
    ) -> Path:
        lines, subjects = [header], list(dict.fromkeys(subject for subject, *_ in rows))
        for subject, level, sample in rows:
            lines.append(f"{subjects.index(subject) + 1}\t{subject}\t0\t{level}\t{sample}")
            video = tmp_path / "video" / subject / f"{sample}.mp4"
            signals = tmp_path / "biosignals_filtered" / subject / f"{sample}_bio.csv"
            for path, content in ((video, f"not looked into: {sample}"), (signals, biosignals)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        (tmp_path / "samples.csv").write_text("\n".join(lines) + "\n")
        return tmp_path

    return write


@pytest.fixture
def affwild2(tmp_path: Path) -> Callable[..., Path]:
    """Write a corpus of Affwild2's shape: {"Train_Set/video1": text} and the names of videos below videos/."""

    def write(annotations: dict[str, str], videos: Sequence[str]) -> Path:
        for name, text in annotations.items():
            path = tmp_path / "annotations" / "VA_Estimation_Challenge" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in videos:
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"not looked into: {name}".encode())
        return tmp_path

    return write


def rows() -> dict[str, Any]:
    """Four rows of two people; the third has no voice."""
    return {
        "task": "classification",
        "classes": ["calm", "tense"],
        "label": np.array([0, 1, -1, 1]),
        "group": np.array(["anna", "anna", "ben", "ben"]),
        "voice": np.array([[1, 2], [3, np.nan], [np.nan, np.nan], [7, 8]], np.float32),
        "eda": np.arange(24, dtype=np.float32).reshape(4, 1, 6),
    }


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write `rows()` with changes as features.npz; a change to None leaves the array out."""

    def write(**changes: Any) -> Path:
        arrays = {key: value for key, value in {**rows(), **changes}.items() if value is not None}
        path = tmp_path / "features.npz"
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture
def bids(tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of one run: person, values (n, C), JSON, events."""

    def write(
        person: str = "sub-01",
        values: NDArray[np.float64] | None = None,
        facts: dict[str, Any] | None = None,
        events: str | None = EVENTS,
        run: str = "task-heat",
    ) -> Path:
        folder = tmp_path / person / "func"
        folder.mkdir(parents=True, exist_ok=True)
        table = ramps() if values is None else values
        lines = "\n".join("\t".join("n/a" if np.isnan(v) else f"{v:.6f}" for v in row) for row in table)
        (folder / f"{person}_{run}_physio.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        about = {"SamplingFrequency": RATE_HZ, "StartTime": START_S, "Columns": ["skin", "respiratory"]}
        units = {"skin": {"Units": "uS"}}
        described = {key: value for key, value in {**about, **units, **(facts or {})}.items() if value is not None}
        (folder / f"{person}_{run}_physio.json").write_text(json.dumps(described))
        if events is not None:
            (folder / f"{person}_{run}_events.tsv").write_text(events)
        return tmp_path

    return write
