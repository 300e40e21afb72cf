"""Affwild2 (ABAW) as its owners lay it out: videos anywhere under videos/, one annotation file a person and video.

Kollias and Zafeiriou, "Aff-Wild2", arXiv 1811.07770. Annotations of valence and arousal lie in
annotations/VA_Estimation_Challenge/{Train_Set,Validation_Set}/*.txt: the header `valence,arousal`, then one line a
frame, -5 where a frame has no label. The official test labels are not public, so the Validation_Set is the test set.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.inputs.media import MediaLimits, frame_times
from models.spec import Side
from training.corpora.clip import SYNTHETIC_LICENCE, Clip, Corpus, CorpusError, is_synthetic, relative

ANNOTATIONS: Final = "annotations/VA_Estimation_Challenge"
SPLITS: Final[Mapping[str, Literal["train", "test"]]] = MappingProxyType(
    {"Train_Set": "train", "Validation_Set": "test"}
)
HEADER: Final = "valence,arousal"
NO_LABEL: Final = -5
VIDEO_SUFFIXES: Final = frozenset({".mp4", ".avi"})
MAX_TRIMMED: Final = 5
"""Lines or frames by which annotation and video may differ at the end."""
VIDEO_LIMITS: Final = MediaLimits(max_duration_s=3600.0, max_frames=240_000)
"""The longest recordings last 26 minutes, some at 60 frames a second."""
LICENCE: Final = "Affwild2: research only, under its owners' agreement; what is trained on it is bound likewise."
BASE: Final = re.compile(r"^(\d+-\d+-\d+x\d+|video\d+)(?:[-_]\d+)?(?:_(?:left|right))?$")
"""`122-60-1920x1080-3` and `video86_2` are parts of one recording."""
SIDE: Final = re.compile(r"_(left|right)$")


def read_affwild2(root: Path) -> Corpus:
    """Read the annotations and find their videos under `root`.

    A clip is an annotation file and named after it; where its name ends in `_left` or `_right`, it means that person
    of a picture with two, and only that half of the picture is searched for a face. Raises CorpusError at the first
    file that is missing or not as expected.
    """
    videos = videos_by_stem(root)
    return Corpus(
        name="affwild2",
        task="valence-arousal",
        levels=(),
        clips=tuple(to_clip(root, path, split, videos) for path, split in annotation_files(root)),
        signal_columns=(),
        synthetic=is_synthetic(root),
        licence=SYNTHETIC_LICENCE if is_synthetic(root) else LICENCE,
    )


def check_affwild2(root: Path) -> list[str]:
    """Sentences on the corpus under `root`: problems ("problem: ..."), trims, then counts by split and subject.

    Reads every video's times. Raises CorpusError where there is no annotation file at all.
    """
    videos = videos_by_stem(root)
    problems, notes, clips = [], [], []
    for path, split in annotation_files(root):
        try:
            clip = to_clip(root, path, split, videos)
            assert clip.video is not None
            assert clip.labels is not None
            note = align_labels(clip.labels, count_frames(clip.video), clip.id)[1]
        except ValueError as error:
            problems.append(str(error))
            continue
        clips.append(clip)
        notes += [note] if note else []
    labelled = sum(int(np.isfinite(clip.labels).all(axis=1).sum()) for clip in clips if clip.labels is not None)
    splits = Counter(clip.split for clip in clips)
    subjects = Counter(clip.subject for clip in clips)
    return [
        *(f"problem: {problem}" for problem in problems),
        *notes,
        f"{len(clips)} clips of {len(subjects)} base videos, {labelled} labelled frames",
        *(f"split {split}: {splits[split]} clips" for split in SPLITS.values()),
        *(f"subject {subject}: {count} clips" for subject, count in sorted(subjects.items())),
    ]


def videos_by_stem(root: Path) -> dict[str, Path]:
    """Every video under videos/ by its base name; CorpusError where two share one."""
    videos: dict[str, Path] = {}
    for path in sorted((root / "videos").rglob("*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        if path.stem in videos:
            both = f"{relative(videos[path.stem], root)} and {relative(path, root)}"
            raise CorpusError(f"{both} share a base name: expected one video for an annotation file.")
        videos[path.stem] = path
    return videos


def annotation_files(root: Path) -> list[tuple[Path, Literal["train", "test"]]]:
    """All annotation files with their split, in a fixed order; CorpusError where there is none."""
    files = [
        (path, split) for name, split in SPLITS.items() for path in sorted((root / ANNOTATIONS / name).glob("*.txt"))
    ]
    if not files:
        raise CorpusError(
            f"{root} has no {ANNOTATIONS}/Train_Set/*.txt: give the folder that holds videos/ and annotations/."
        )
    doubled = [stem for stem, count in Counter(path.stem for path, _ in files).items() if count > 1]
    if doubled:
        raise CorpusError(f"{doubled[0]}.txt lies in Train_Set and in Validation_Set: expected it in one of them.")
    return files


def to_clip(root: Path, path: Path, split: Literal["train", "test"], videos: Mapping[str, Path]) -> Clip:
    """One annotation file and its video as a clip."""
    video = videos.get(path.stem) or videos.get(SIDE.sub("", path.stem))
    if video is None:
        raise CorpusError(
            f"{relative(path, root)} has no video: expected {SIDE.sub('', path.stem)}.mp4 or .avi under videos/."
        )
    return Clip(
        id=path.stem,
        subject=base_video(path.stem),
        video=video,
        labels=read_labels(path, root),
        side=labelled_side(path.stem),
        groups={"sex": "unknown", "age": "unknown"},
        split=split,
    )


def base_video(stem: str) -> str:
    """The recording that an annotation file belongs to: its name without part and side."""
    match = BASE.match(stem)
    return match[1] if match else SIDE.sub("", stem)


def labelled_side(stem: str) -> Side | None:
    """The half of the picture that a name's `_left` or `_right` speaks of."""
    match = SIDE.search(stem)
    return None if match is None else "left" if match[1] == "left" else "right"


def read_labels(path: Path, root: Path) -> NDArray[np.float32]:
    """Labels (frames, 2); a frame counts when both its labels lie in [-1, 1], else both are NaN.

    Raises CorpusError for another header, a line that is not two numbers, or no line at all.
    """
    header, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    name = relative(path, root)
    if header.replace(" ", "").lower() != HEADER:
        raise CorpusError(f"{name} begins with {header[:40]!r}: expected the header {HEADER}.")
    if not lines:
        raise CorpusError(f"{name} has no line below its header: expected a line for each frame.")
    labels = np.empty((len(lines), 2), np.float32)
    for index, line in enumerate(lines):
        try:
            valence, arousal = line.split(",")
            labels[index] = float(valence), float(arousal)
        except ValueError as error:
            raise CorpusError(f"{name}, line {index + 2}, is {line[:40]!r}: expected two numbers, {HEADER}.") from error
    labels[~(np.abs(labels) <= 1).all(axis=1)] = np.nan
    return labels


def align_labels(labels: NDArray[np.float32], n_frames: int, clip_id: str) -> tuple[NDArray[np.float32], str | None]:
    """Give `labels` (lines, 2) a row for each of `n_frames` frames.

    Lines beyond the last frame are dropped, frames beyond the last line get NaN, and the second value is a sentence on
    it. Raises CorpusError where they differ by more than 5.
    """
    missing = n_frames - len(labels)
    if missing == 0:
        return labels, None
    fact = f"{clip_id}: {len(labels)} lines of labels for {n_frames} frames"
    if abs(missing) > MAX_TRIMMED:
        raise CorpusError(f"{fact}: expected a difference of at most {MAX_TRIMMED}.")
    if missing < 0:
        return labels[:n_frames], f"{fact}; the last {-missing} lines were dropped."
    padding = np.full((missing, 2), np.nan, np.float32)
    return np.concatenate([labels, padding]), f"{fact}; the last {missing} frames have no label."


def count_frames(video: Path) -> int:
    """Frames that the video shows."""
    with video.open("rb") as file:
        return len(frame_times(file, VIDEO_LIMITS))
