"""BioVid Heat Pain (parts A and B) as its owners lay it out: samples.csv, video/ and biosignals_filtered/.

Walter et al., "The BioVid Heat Pain Database", CYBCONF 2013. Clips last 5.5 s, video has 25 frames/s, biosignals
512 Hz. Subjects are named `071309_w_21`: day, sex (w/m), age in years. Levels are heat stimuli calibrated to the
person, not the pain felt.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final

from models.inputs.media.media import MediaLimits, probe
from models.inputs.signals import SignalError, read_biosignals, read_columns
from training.corpora.clip import SYNTHETIC_LICENCE, Clip, Corpus, CorpusError, is_synthetic, relative
from training.corpora.leaks import identical_files

LEVELS: Final = ("BL1", "PA1", "PA2", "PA3", "PA4")
SIGNAL_COLUMNS: Final = ("gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")
SAMPLE_COLUMNS: Final = ("subject_id", "subject_name", "class_id", "class_name", "sample_name")
LICENCE: Final = (
    "BioVid Heat Pain: research only, under its owners' agreement; what is trained on it is bound likewise."
)
SUBJECT_NAME: Final = re.compile(r"^\d+_(?P<sex>[wm])_(?P<age>\d+)$")
NAMED_LEVEL: Final = re.compile(r"-(BL1|PA[1-4])-")
"""`071309_w_21-PA3-017` is a clip of PA3."""
VIDEO_LIMITS: Final = MediaLimits()
MAX_DIFFERENCE_S: Final = 0.5
"""Between the lengths of a clip's video and biosignals."""
FACIAL_EMG: Final = ("emg_corrugator", "emg_zygomaticus")
"""Part B was recorded with electrodes on the face, part A without."""
SUBJECT_COUNTS: Final[Mapping[int, str]] = MappingProxyType(
    {87: "all of part A", 67: "part A without the 20 who hardly react, a list that its owners publish"}
)
AGE_BANDS: Final = ((18, 35), (36, 50), (51, 65))


def read_biovid(root: Path) -> Corpus:
    """Read the part of BioVid under `root`.

    Raises CorpusError at the first file that is missing or not as expected; `check_biovid` lists them all.
    """
    rows = read_samples(root)
    clips = tuple(to_clip(root, row) for row in rows)
    for clip in clips:
        problem = missing_files(root, clip)
        if problem:
            raise CorpusError(problem[0])
    return Corpus(
        name="biovid",
        task="pain",
        levels=LEVELS,
        clips=clips,
        signal_columns=part_columns(clips[0]),
        synthetic=is_synthetic(root),
        licence=SYNTHETIC_LICENCE if is_synthetic(root) else LICENCE,
    )


def check_biovid(root: Path) -> list[str]:
    """Sentences on the part under `root`: every problem ("problem: ..."), then counts by class, group and subject.

    Problems are missing and damaged files, biosignals that lack a column of the first or last longer or shorter than
    the video, bad labels, one person under two names, and files that are the same under two. Reads all biosignals, and
    opens all videos. Raises CorpusError where samples.csv itself cannot be read.
    """
    rows = read_samples(root)
    problems, clips = ids_of_two(rows), []
    for row in rows:
        try:
            clips.append(to_clip(root, row))
        except CorpusError as error:
            problems.append(str(error))
    columns = first_columns(clips)
    for clip in clips:
        missing = missing_files(root, clip)
        problems += missing if missing else bad_files(root, clip, columns)
    there = [path for clip in clips for path in (clip.video, clip.signals) if path is not None and path.is_file()]
    problems += identical_files(there, root)
    counts = Counter(LEVELS[clip.level] for clip in clips if clip.level is not None)
    subjects = Counter(clip.subject for clip in clips)
    groups = Counter(group for subject in subjects for group in groups_of(subject).items())
    return [
        *(f"problem: {problem}" for problem in problems),
        f"{len(clips)} clips of {len(subjects)} subjects",
        which_part(clips),
        *(f"class {level}: {counts[level]} clips" for level in LEVELS),
        *(f"{kind} {group}: {count} subjects" for (kind, group), count in sorted(groups.items())),
        *(f"subject {subject}: {count} clips" for subject, count in sorted(subjects.items())),
    ]


def which_part(clips: Sequence[Clip]) -> str:
    """A sentence on the columns of the biosignals, the part that has them, and the number of subjects."""
    header = first_columns(clips)
    part = "B (facial EMG)" if set(FACIAL_EMG) <= set(header) else "A (no facial EMG)"
    subjects = len({clip.subject for clip in clips})
    known = SUBJECT_COUNTS.get(subjects, "neither the 87 of part A nor the 67 of its published selection")
    return f"like part {part}: {', '.join(header) or 'no physiology'}; {subjects} subjects, {known}"


def first_columns(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The physiological columns of the first clip whose biosignals have a header that can be read."""
    for clip in clips:
        if clip.signals is not None and clip.signals.is_file():
            with suppress(CorpusError):
                return part_columns(clip)
    return ()


def read_samples(root: Path) -> list[dict[str, str]]:
    """The rows of samples.csv, which lies at the root or in starting_point/."""
    path = next((p for p in (root / "samples.csv", root / "starting_point" / "samples.csv") if p.is_file()), None)
    if path is None:
        raise CorpusError(
            f"{root} has no samples.csv (nor starting_point/samples.csv): give the folder of a BioVid part."
        )
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t")
        rows, header = list(reader), reader.fieldnames or ()
    except UnicodeDecodeError:
        raise CorpusError("samples.csv is not UTF-8: save it as UTF-8 text.") from None
    except csv.Error as error:
        raise CorpusError(f"samples.csv is no table ({error}): expected short lines, separated by tabs.") from error
    absent = [name for name in SAMPLE_COLUMNS if name not in header]
    if absent:
        raise CorpusError(
            f"samples.csv lacks the column {absent[0]}: expected a tab between {', '.join(SAMPLE_COLUMNS)}."
        )
    if not rows:
        raise CorpusError("samples.csv has no line below its header: expected a line for each clip.")
    doubled = [name for name, count in Counter(row["sample_name"] for row in rows).items() if count > 1]
    if doubled:
        raise CorpusError(f"samples.csv names {doubled[0]} more than once: expected a line for each clip.")
    return rows


def to_clip(root: Path, row: dict[str, str]) -> Clip:
    """One line of samples.csv as a clip.

    Raises CorpusError for a class outside BL1, PA1..PA4 or another one than in the clip's name, as where a table was
    sorted by one column alone, and for a name that is a path.
    """
    subject, sample, level = row["subject_name"], row["sample_name"], row["class_name"]
    if level not in LEVELS:
        raise CorpusError(f"samples.csv gives {sample} the class {level!r}: expected one of {', '.join(LEVELS)}.")
    for name in (subject, sample):
        if not re.fullmatch(r"[\w-]+", name or ""):
            raise CorpusError(f"samples.csv holds the name {name!r}: expected letters, digits, _ and - only.")
    if (named := NAMED_LEVEL.search(sample)) and named[1] != level:
        raise CorpusError(f"samples.csv gives {sample} the class {level}: expected {named[1]}, as its name says.")
    return Clip(
        id=sample,
        subject=subject,
        video=root / "video" / subject / f"{sample}.mp4",
        signals=root / "biosignals_filtered" / subject / f"{sample}_bio.csv",
        level=LEVELS.index(level),
        groups=groups_of(subject),
    )


def ids_of_two(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A sentence for each subject_id that stands beside two names: one person would be dealt as two."""
    names: dict[str, list[str]] = {}
    for row in (row for row in rows if row["subject_id"]):
        names.setdefault(row["subject_id"], []).append(row["subject_name"])
    return [
        f"samples.csv gives subject_id {number} the names {first} and {other}: expected one for each person."
        for number, own in names.items()
        for first, other in pairwise(dict.fromkeys(own))
    ]


def groups_of(subject: str) -> dict[str, str]:
    """Sex and age band (the corpus's own bands) from a subject's name."""
    match = SUBJECT_NAME.match(subject)
    if match is None:
        return {"sex": "unknown", "age": "unknown"}
    bands = [f"{low}-{high}" for low, high in AGE_BANDS if low <= int(match["age"]) <= high]
    return {"sex": {"w": "female", "m": "male"}[match["sex"]], "age": bands[0] if bands else "unknown"}


def missing_files(root: Path, clip: Clip) -> list[str]:
    """A sentence for the video and for the biosignals, where they are not there."""
    wanted = ((clip.video, "the clip's video"), (clip.signals, "the clip's biosignals"))
    return [
        f"{relative(path, root)} is missing: expected {what} ({clip.id} in samples.csv)."
        for path, what in wanted
        if path is not None and not path.is_file()
    ]


def part_columns(clip: Clip) -> tuple[str, ...]:
    """The physiological columns in the header of the clip's biosignals."""
    assert clip.signals is not None
    try:
        header = read_columns(clip.signals)
    except SignalError as error:
        raise CorpusError(str(error)) from error
    return tuple(name for name in SIGNAL_COLUMNS if name in header)


def bad_files(root: Path, clip: Clip, columns: Sequence[str]) -> list[str]:
    """What reading the clip's biosignals, in which `columns` are expected, and opening its video complain of."""
    assert clip.signals is not None
    problems, lengths_s = [], []
    for length in (partial(signals_s, clip, columns), partial(video_s, root, clip)):
        try:
            lengths_s.append(length())
        except ValueError as error:
            problems.append(str(error))
    if problems:
        return problems
    try:
        require_one_length(relative(clip.signals, root), *lengths_s)
    except CorpusError as error:
        return [str(error)]
    return []


def require_one_length(file: str, recorded_s: float, filmed_s: float) -> None:
    """Raise CorpusError where the biosignals in `file` last longer or shorter than the clip's video, in seconds.

    What is missing at the end of a window would be filled with the last value.
    """
    if abs(recorded_s - filmed_s) > MAX_DIFFERENCE_S:
        raise CorpusError(
            f"{file} lasts {recorded_s:.2f} s and its video {filmed_s:.2f} s: expected a difference of at most "
            f"{MAX_DIFFERENCE_S:g} s."
        )


def signals_s(clip: Clip, columns: Sequence[str]) -> float:
    """How long the clip's biosignals last in seconds; ValueError where they are damaged, or lack one of `columns`."""
    assert clip.signals is not None
    own = part_columns(clip)
    recording = read_biosignals(clip.signals, tuple(dict.fromkeys((*columns, *own))))
    return float(recording.values.shape[1] / recording.rate_hz)


def video_s(root: Path, clip: Clip) -> float:
    """How long the clip's video lasts in seconds; ValueError, which names it, where it cannot be read."""
    assert clip.video is not None
    name = relative(clip.video, root)
    try:
        with clip.video.open("rb") as file:
            info = probe(file, VIDEO_LIMITS)
    except ValueError as error:
        raise CorpusError(f"{name}: {error}") from error
    if not info.has_video:
        raise CorpusError(f"{name} holds no picture.")
    return info.duration_s
