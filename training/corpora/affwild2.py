"""Affwild2 (ABAW) as its owners lay it out: videos, aligned faces, and one annotation file a person and video.

Kollias and Zafeiriou, "Aff-Wild2", arXiv 1811.07770. Annotations of valence and arousal lie in
annotations/VA_Estimation_Challenge/{Train_Set,Validation_Set}/*.txt: the header `valence,arousal`, then one line a
frame, -5 where a frame has no label. The official test labels are not public, so the Validation_Set is the test set.
Videos lie anywhere under videos/, batch1/ or batch2/; cropped_aligned/<annotation file>/00001.jpg is the first frame's
face.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.media import MediaLimits
from models.spec import Side
from training.corpora.aligned_pictures import USUAL_RATE_HZ, clip_frame_times, named_rate_hz, read_pictures
from training.corpora.clip import SYNTHETIC_LICENCE, Clip, Corpus, CorpusError, is_synthetic, relative
from training.corpora.leaks import identical_files

ANNOTATIONS: Final = "annotations/VA_Estimation_Challenge"
SPLITS: Final[Mapping[str, Literal["train", "test"]]] = MappingProxyType(
    {"Train_Set": "train", "Validation_Set": "test"}
)
HEADER: Final = "valence,arousal"
NO_LABEL: Final = -5
VIDEO_FOLDERS: Final = ("videos", "batch1", "batch2")
PICTURES: Final = "cropped_aligned"
VIDEO_SUFFIXES: Final = frozenset({".mp4", ".avi"})
MAX_TRIMMED: Final = 5
"""Lines or frames by which annotation and video may differ at the end."""
VIDEO_LIMITS: Final = MediaLimits(max_duration_s=3600.0, max_frames=240_000)
"""The longest recordings last 26 minutes, some at 60 frames a second."""
LICENCE: Final = "Affwild2: research only, under its owners' agreement; what is trained on it is bound likewise."
BASE: Final = re.compile(r"^(\d+-\d+-\d+x\d+|video\d+)(?:[-_]\d+)?(?:_(?:left|right))?$")
"""`122-60-1920x1080-3` and `video86_2` are parts of one recording."""
SIDE: Final = re.compile(r"_(left|right)$")


def read_affwild2(root: Path, *, aligned: bool = False) -> Corpus:
    """Read the annotations and find their videos, or else their aligned faces, under `root`.

    A clip is an annotation file and named after it; where its name ends in `_left` or `_right`, it means that person
    of a picture with two, and only that half of the picture is searched for a face. Its face comes from the video,
    and from cropped_aligned/ where there is no video; `aligned` takes that folder for every clip, and a video that is
    there too gives the sound and the times. Raises CorpusError at the first file that is missing or not as expected.
    """
    videos = videos_by_stem(root)
    clips = tuple(to_clip(root, path, split, videos, aligned=aligned) for path, split in annotation_files(root))
    return Corpus(
        name="affwild2",
        task="valence-arousal",
        levels=(),
        clips=clips,
        signal_columns=(),
        synthetic=is_synthetic(root),
        licence=SYNTHETIC_LICENCE if is_synthetic(root) else LICENCE,
        notes=assumed_rates(clips),
    )


def check_affwild2(root: Path) -> list[str]:
    """Sentences on the corpus under `root`: problems ("problem: ..."), trims, then counts by split and subject.

    Problems are missing and damaged files, bad labels, a base video in both sets, and videos that are the same under
    two names. Reads every video's times. Raises CorpusError where there is no annotation file at all.
    """
    videos = videos_by_stem(root)
    problems, notes, clips = [], [], []
    for path, split in annotation_files(root):
        try:
            clip = to_clip(root, path, split, videos, aligned=False)
            assert clip.labels is not None
            frames = len(clip_frame_times(clip, VIDEO_LIMITS))
            note = align_labels(clip.labels, frames, clip.id)[1]
        except ValueError as error:
            problems.append(str(error))
            continue
        clips.append(clip)
        problems += beyond_range(path, root)
        notes += [*([note] if note else []), *missing_pictures(clip, frames)]
    problems += in_both_sets(clips)
    problems += identical_files([clip.video for clip in clips if clip.video is not None], root)
    notes += assumed_rates(clips)
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
    """Every video under videos/, batch1/ and batch2/ by its base name; CorpusError where two share one."""
    videos: dict[str, Path] = {}
    for path in sorted(file for folder in VIDEO_FOLDERS for file in (root / folder).rglob("*")):
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


def to_clip(
    root: Path, path: Path, split: Literal["train", "test"], videos: Mapping[str, Path], *, aligned: bool
) -> Clip:
    """One annotation file and its video or aligned faces as a clip."""
    video = videos.get(path.stem) or videos.get(SIDE.sub("", path.stem))
    pictures = root / PICTURES / path.stem if aligned or video is None else None
    if pictures is not None and not pictures.is_dir():
        sought = "" if aligned else f"{SIDE.sub('', path.stem)}.mp4 or .avi under videos/, or "
        raise CorpusError(
            f"{relative(path, root)} has no {'pictures' if aligned else 'video'}: expected {sought}the folder "
            f"{relative(pictures, root)}/."
        )
    return Clip(
        id=path.stem,
        subject=base_video(path.stem),
        video=video,
        pictures=pictures,
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

    Raises CorpusError for what is no UTF-8, another header, a line that is not two finite numbers, or no line at all.
    """
    labels = read_lines(path, root)
    labels[~(np.abs(labels) <= 1).all(axis=1)] = np.nan
    return labels


def beyond_range(path: Path, root: Path) -> list[str]:
    """A sentence where lines hold something else than labels in [-1, 1] and -5 for none."""
    lines = read_lines(path, root)
    wrong = ((np.abs(lines) > 1) & (lines != NO_LABEL)).any(axis=1)
    if not wrong.any():
        return []
    return [
        f"{relative(path, root)} has {wrong.sum()} lines beyond [-1, 1], the first is line {int(wrong.argmax()) + 2}: "
        f"expected {NO_LABEL} where there is no label; they count as unlabelled."
    ]


def read_lines(path: Path, root: Path) -> NDArray[np.float32]:
    """The numbers of an annotation file as they stand, (frames, 2)."""
    name = relative(path, root)
    try:
        header, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
    except UnicodeDecodeError:
        raise CorpusError(f"{name} is not UTF-8: expected the header {HEADER}; save it as UTF-8 text.") from None
    if header.replace(" ", "").lower() != HEADER:
        raise CorpusError(f"{name} begins with {header[:40]!r}: expected the header {HEADER}.")
    if not lines:
        raise CorpusError(f"{name} has no line below its header: expected a line for each frame.")
    labels = np.empty((len(lines), 2), np.float32)
    for index, line in enumerate(lines):
        try:
            valence, arousal = map(float, line.split(","))
        except ValueError as error:
            raise CorpusError(f"{name}, line {index + 2}, is {line[:40]!r}: expected two numbers, {HEADER}.") from error
        if not (math.isfinite(valence) and math.isfinite(arousal)):
            raise CorpusError(
                f"{name}, line {index + 2}, is {line[:40]!r}: expected {NO_LABEL} where there is no label."
            )
        labels[index] = valence, arousal
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


def in_both_sets(clips: Sequence[Clip]) -> list[str]:
    """A sentence for each base video of which a part lies in Train_Set and another in Validation_Set."""
    of: dict[str, dict[str | None, str]] = {}
    for clip in clips:
        of.setdefault(clip.subject, {}).setdefault(clip.split, clip.id)
    return [
        f"{subject} is in Train_Set ({ids['train']}) and in Validation_Set ({ids['test']}): expected all parts of a "
        "recording in one of them."
        for subject, ids in sorted(of.items())
        if len(ids) > 1
    ]


def missing_pictures(clip: Clip, frames: int) -> list[str]:
    """A sentence where frames of aligned pictures are missing; they stay in the score."""
    if clip.pictures is None:
        return []
    missing = frames - sum(number <= frames for number in read_pictures(clip.pictures).files)
    return [f"{clip.id}: {missing} of {frames} frames have no picture"] if missing else []


def assumed_rates(clips: Sequence[Clip]) -> tuple[str, ...]:
    """A sentence on clips whose frame rate neither a video nor their name tells."""
    unknown = [clip.id for clip in clips if clip.video is None and named_rate_hz(clip.id) is None]
    if not unknown:
        return ()
    return (
        f"{len(unknown)} clips have pictures and no video, and their names tell no rate: taken as "
        f"{USUAL_RATE_HZ:g} frames a second ({unknown[0]}{', ...' if len(unknown) > 1 else ''}).",
    )
