"""Synthetic corpora in the real corpora's own formats: drawn faces, computed physiology and voices.

`synthesize_biovid` and `synthesize_affwild2` write folders that `read_biovid` and `read_affwild2` read. The same
settings give the same labels and signals on every machine, whatever the number of workers. The models are in
`pain_model` and `affect_model`, and described in docs/synthetic-corpora.md.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from tqdm import tqdm

from training.corpora.affect_model import SyntheticAffect, affect_expression, annotate, draw_affect
from training.corpora.affwild2 import ANNOTATIONS, HEADER, NO_LABEL
from training.corpora.biovid import LEVELS, SAMPLE_COLUMNS
from training.corpora.clip import SYNTHETIC_MARKER
from training.corpora.drawn_face import ActionUnits, draw_frames
from training.corpora.drawn_head import HeadTexture, Identity, head_texture, scene
from training.corpora.drawn_motion import VIDEO_HZ, draw_light, draw_pose
from training.corpora.drawn_signals import RATE_HZ, conductance, heartbeat, muscle
from training.corpora.drawn_voice import VOICE_HZ, speak
from training.corpora.media_file import write_video
from training.corpora.pain_model import (
    CLIP_FRAMES,
    CLIP_S,
    Person,
    Reaction,
    SyntheticPain,
    clip_rng,
    draw_person,
    draw_reaction,
    pain_expression,
    reaction_course,
)
from training.files.replacing import replacing

__all__ = ["SyntheticAffect", "SyntheticPain", "synthesize_affwild2", "synthesize_biovid"]

MODEL_VERSION: Final = 1
"""Raised whenever the same settings would give another corpus."""

WHAT: Final = "a synthetic corpus"

LEVELS_IN_BIOVID_ORDER: Final = ("PA1", "PA2", "PA3", "PA4", "BL1")
"""BioVid numbers a person's clips through in this order."""

T = TypeVar("T")


def synthesize_biovid(folder: Path, settings: SyntheticPain | None = None, *, workers: int | None = None) -> None:
    """Write a drawn corpus in BioVid's format to `folder`; nothing is done where it is there already.

    `workers` processes draw (default: one for each core that may be used; 1 stays in this process). Raises
    FolderInUseError where the folder holds anything else than a synthetic corpus.
    """
    settings = settings or SyntheticPain()
    if holds(folder, settings):
        return
    with replacing(folder, marker=SYNTHETIC_MARKER, what=WHAT) as part:
        people = run_all(partial(make_person, part, settings), settings.people, workers, "people")
        lines = ["\t".join(SAMPLE_COLUMNS), *("\t".join(row) for rows in people for row in rows)]
        (part / "samples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_marker(part, settings, "BioVid Heat Pain, part A")


def synthesize_affwild2(folder: Path, settings: SyntheticAffect | None = None, *, workers: int | None = None) -> None:
    """Write a drawn corpus in Affwild2's format to `folder`; otherwise as `synthesize_biovid`."""
    settings = settings or SyntheticAffect()
    if holds(folder, settings):
        return
    with replacing(folder, marker=SYNTHETIC_MARKER, what=WHAT) as part:
        run_all(partial(make_affect_video, part, settings), settings.videos, workers, "videos")
        write_marker(part, settings, "Affwild2")


def make_person(root: Path, settings: SyntheticPain, index: int) -> list[tuple[str, ...]]:
    """Draw all clips of one person; the person's lines of samples.csv."""
    person = draw_person(settings, index)
    texture = head_texture(person.identity)
    rows: list[tuple[str, ...]] = []
    for level, number in ((level, n) for level in range(len(LEVELS)) for n in range(settings.clips_per_class)):
        position = LEVELS_IN_BIOVID_ORDER.index(LEVELS[level]) * settings.clips_per_class + number + 1
        sample = f"{person.name}-{LEVELS[level]}-{position:03d}"
        rows.append((str(index + 1), person.name, str(level), LEVELS[level], sample))
        rng = clip_rng(settings, index, level, number)
        reaction = draw_reaction(rng, settings, person, level / (len(LEVELS) - 1))
        signals_path = root / "biosignals_filtered" / person.name / f"{sample}_bio.csv"
        write_signals(signals_path, rng, settings, person, reaction)
        time_s = np.arange(CLIP_FRAMES, dtype=np.float32) / np.float32(VIDEO_HZ)
        units = pain_expression(rng, settings, person, reaction, time_s)
        frames = record(rng, person.identity, texture, units, settings.picture_px, restlessness=0.7)
        write_video(prepared(root / "video" / person.name / f"{sample}.mp4"), frames, VIDEO_HZ, settings.picture_px)
    return rows


def write_signals(
    path: Path, rng: np.random.Generator, settings: SyntheticPain, person: Person, reaction: Reaction
) -> None:
    """Compute and write the biosignals of one clip: time in microseconds, 512 Hz."""
    n = round(CLIP_S * RATE_HZ)
    course = reaction_course(reaction, np.arange(n) / RATE_HZ)
    columns = [
        np.arange(n) * 1e6 / RATE_HZ,
        conductance(rng, person.body, course, settings.body_noise),
        heartbeat(rng, person.body, course, settings.body_noise),
        muscle(rng, person.body, course, settings.body_noise),
    ]
    values = tuple(np.stack(columns, axis=1).ravel().tolist())
    text = "time\tgsr\tecg\temg_trapezius\n" + "%.0f\t%.4f\t%.2f\t%.3f\n" * n % values
    prepared(path).write_text(text, encoding="utf-8")


def make_affect_video(root: Path, settings: SyntheticAffect, index: int) -> None:
    """Draw, voice and annotate one video."""
    affect = draw_affect(settings, index)
    rng = np.random.default_rng([settings.seed, 4, index])
    frames = round(settings.video_s * VIDEO_HZ)
    labels = annotate(rng, settings, affect, frames)
    name = f"{index + 1}-{VIDEO_HZ}-{settings.picture_px}x{settings.picture_px}"
    split = "Validation_Set" if index >= settings.videos - settings.validation_videos else "Train_Set"
    lines = [
        HEADER,
        *(f"{valence:.3f},{arousal:.3f}" for valence, arousal in np.nan_to_num(labels, nan=NO_LABEL).tolist()),
    ]
    prepared(root / ANNOTATIONS / split / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    units = affect_expression(rng, settings, affect, np.arange(frames, dtype=np.float32) / np.float32(VIDEO_HZ))
    sound = speak(rng, affect)
    pictures = record(rng, affect.identity, head_texture(affect.identity), units, settings.picture_px, restlessness=1.3)
    path = prepared(root / "videos" / f"{name}.mp4")
    write_video(path, pictures, VIDEO_HZ, settings.picture_px, sound=sound, sound_hz=VOICE_HZ)


def record(
    rng: np.random.Generator,
    who: Identity,
    texture: HeadTexture,
    units: ActionUnits,
    size_px: int,
    *,
    restlessness: float,
) -> Iterator[NDArray[np.uint8]]:
    """Put a head with an expression before a camera: the frames at 25 a second; room and light are the person's own."""
    frames = len(units.eyes_closed_43)
    pose = draw_pose(rng, frames, size_px, restlessness)
    own = np.random.default_rng(who.seed)
    centre_px = (float(pose.x_px.mean()), float(pose.y_px.mean()))
    backdrop = scene(own, who, size_px, centre_px, float(pose.unit_px.mean()))
    return draw_frames(who, texture, backdrop, draw_light(own), pose, units)


def run_all(make: Callable[[int], T], count: int, workers: int | None, unit: str) -> list[T]:
    """`make` of 0..count-1, in order, spread over processes, with a progress bar on a terminal."""
    workers = min(workers or len(os.sched_getaffinity(0)), count)
    if workers == 1:
        return [make(index) for index in tqdm(range(count), unit=unit, disable=None)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(tqdm(pool.map(make, range(count)), total=count, unit=unit, disable=None))


def fingerprint(settings: BaseModel) -> str:
    """What tells one synthetic corpus from another: SHA-256 of kind, version and settings."""
    key = [type(settings).__name__, MODEL_VERSION, settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def holds(folder: Path, settings: BaseModel) -> bool:
    """Whether `folder` already holds the corpus of these settings."""
    marker = folder / SYNTHETIC_MARKER
    return marker.is_file() and fingerprint(settings) in marker.read_text(encoding="utf-8")


def write_marker(folder: Path, settings: BaseModel, of: str) -> None:
    """Say at the corpus's root what it is."""
    text = f"""# A synthetic corpus

The people in this folder are drawn, and their physiology and voices are computed. Nobody was recorded. The files have
the format of {of}, and hold nothing of it. What is trained on them says nothing about real people.
Dedicated to the public domain (CC0 1.0).

Settings {fingerprint(settings)}:

```json
{settings.model_dump_json(indent=2)}
```
"""
    (folder / SYNTHETIC_MARKER).write_text(text, encoding="utf-8")


def prepared(path: Path) -> Path:
    """`path`, after its folder was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
