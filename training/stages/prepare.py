"""Before the first stage: read the corpus, prepare its windows, and deal the people into parts."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from filelock import FileLock

from models.spec import FACE
from training.config import ConfigError, RunConfig
from training.corpora.affwild2 import read_affwild2
from training.corpora.bids import read_bids
from training.corpora.biovid import read_biovid
from training.corpora.clip import Clip, Corpus
from training.corpora.feature_corpus import FeatureCorpus
from training.corpora.features import read_features
from training.corpora.splits import PARTS, SplitError, split_clips
from training.corpora.synthesize import SYNTHESIZE
from training.data.by_person import standardised_by_person
from training.data.contents import contents_of
from training.data.feature_windows import feature_windows
from training.data.frozen import originals, seen_once
from training.data.labels import keep_labels
from training.data.window_set import WindowSet
from training.data.windows import CorpusWindows, corpus_windows, to_deal
from training.face_nets.fetch import cached_face_nets
from training.files.cache_folder import cache_root
from training.loop.distributed import world_device
from training.loop.tracking import tracking
from training.run_folder import RunFolder
from training.stages.checks import check_encoders, check_parts, check_parts_left_out
from training.stages.setting import Setting

FACIAL_MUSCLES: Final = ("corrugator", "zygomatic", "orbicularis", "frontalis")
"""What the name of a channel holds that is recorded on the face."""


@contextmanager
def open_setting(config: RunConfig, folder: Path) -> Iterator[Setting]:
    """A run's setting, its curves written into `folder` until the block ends.

    Raises as `prepare_setting` does, and ConfigError where `folder` holds a run on a corpus that held something else.
    """
    setting = prepare_setting(config, folder / "scratch")
    RunFolder(folder).check_corpus(setting.contents)
    with tracking(config, folder, setting.protocol) as track:
        yield replace(setting, track=track)


def prepare_setting(config: RunConfig, scratch: Path) -> Setting:
    """Everything the stages need, and nothing written but caches.

    Raises CorpusError, SplitError, SignalError, MediaError, FaceNetsMissingError, WeightsFileError or HuggingFaceError.
    """
    check_encoders(config)
    corpus, prepared = read_windows(config)
    shown = standardised_by_person(prepared.windows, config.corpus.standardise_by_person, config.inputs)
    device = world_device()
    windows = seen_once(shown, config, prepared.key, cache_root() / "frozen", device)
    notes = corpus.notes + prepared.notes + _notes(config) + notes_on_pictures(config, corpus)
    noted = replace(corpus, notes=notes)
    setting = deal(config, noted, prepared._replace(windows=windows), scratch, device)
    return replace(setting, shown=originals(shown, windows), contents=contents_of(corpus, prepared))


def deal(config: RunConfig, corpus: Corpus, prepared: CorpusWindows, scratch: Path, device: torch.device) -> Setting:
    """The people in their parts, for the seed and fold of `config`; SplitError where a part cannot do its work."""
    clips, unlabelled = to_deal(corpus, prepared.windows)
    try:
        split = split_clips(clips, config.splits, config.fold, unlabelled)
    except SplitError as error:
        raise SplitError(f"the corpus {corpus.name}: {error}") from None
    parts = {
        part: prepared.windows.of_clips([clip.id in getattr(split, part) for clip in corpus.clips]) for part in PARTS
    }
    train, select = (keep_labels(parts[part], config.labels, seed=config.seed) for part in ("train", "select"))
    notes = _notes_on_labels(config, (parts["train"], parts["select"]), (train, select))
    setting = Setting(
        config=config,
        corpus=replace(corpus, notes=corpus.notes + notes),
        split=split,
        train=train,
        select=select,
        calibrate=parts["calibrate"].labelled(),
        test=parts["test"],
        frames=prepared.frames,
        device=device,
        scratch=scratch,
    )
    check_parts(setting)
    check_parts_left_out(setting)
    return setting


def _notes(config: RunConfig) -> tuple[str, ...]:
    """What every result must say of how it was made."""
    notes = []
    if config.corpus.standardise_by_person:
        names = ", ".join(config.corpus.standardise_by_person)
        notes.append(f"Standardised by person over all of each person's recordings: {names}.")
        prevalent = {name for available in config.students for name in available}
        if asked := [name for name in config.corpus.standardise_by_person if name in prevalent]:
            notes.append(
                f"A bundle takes {', '.join(asked)} standardised: whoever asks it must centre and scale them over all "
                "of the person's recordings."
            )
    return tuple(notes + _notes_on_signals(config))


def _notes_on_labels(config: RunConfig, all_: Sequence[WindowSet], kept: Sequence[WindowSet]) -> tuple[str, ...]:
    """Which share of the labels was asked for, and what it came to: of whatever is drawn from one is kept at least."""
    if config.labels.fraction == 1:
        return ()
    few, many = (sum(len(part.labelled()) for part in parts) for parts in (kept, all_))
    return (
        f"{100 * config.labels.fraction:g}% of the labels of training and selection people, {config.labels.by}: in "
        f"seed {config.seed}, fold {config.fold} {few} of {many} windows keep theirs.",
    )


def _notes_on_signals(config: RunConfig) -> list[str]:
    """Which channels are read, and which of them are of facial muscles: those nearly are the face's action units."""
    channels = {name: s.channels for name, s in config.inputs.signals.items() if name in config.modalities}
    if not channels:
        return []
    notes = [f"Signals: {'; '.join(f'{name} from ' + ', '.join(own) for name, own in channels.items())}."]
    facial = [c for own in channels.values() for c in own if any(muscle in c.lower() for muscle in FACIAL_MUSCLES)]
    if facial:
        notes.append(f"Facial EMG is used, from electrodes on the face: {', '.join(facial)}.")
    return notes


def notes_on_pictures(config: RunConfig, corpus: Corpus) -> tuple[str, ...]:
    """A sentence where a student learns from faces that a service would crop otherwise."""
    cropped = sum(clip.pictures is not None for clip in corpus.clips)
    if not cropped or not any(FACE in available for available in config.students):
        return ()
    return (
        f"The faces of {cropped} of {len(corpus.clips)} clips were cropped by the corpus's owners; a service crops "
        "them by the bundle's own nets, where these scores need not hold.",
    )


def read_windows(config: RunConfig) -> tuple[Corpus, CorpusWindows]:
    """The corpus of the configuration and its prepared windows; a synthetic one is written into the cache first."""
    kind, root = config.corpus.kind, config.corpus.root
    if root is None:
        root = _synthetic(kind)
    if kind in ("features", "bids"):
        features = (
            read_features(root)
            if kind == "features"
            else read_bids(root, config.inputs, config.corpus.levels, config.task)
        )
        return _feature_windows(config, features)
    corpus = read_biovid(root) if kind == "biovid" else read_affwild2(root, aligned=config.corpus.aligned)
    corpus = only_levels(corpus, config.corpus.levels)
    for modality, signal in config.inputs.signals.items():
        if absent := [name for name in signal.channels if name not in corpus.signal_columns]:
            raise ConfigError(
                f"inputs.signals.{modality}.channels: {root} has no column {absent[0]}; "
                f"it has {', '.join(corpus.signal_columns) or 'no physiology'}"
            )
    prepared = corpus_windows(
        corpus,
        config.inputs,
        config.modalities,
        None if config.inputs.face is None else cached_face_nets(),
        workers=len(os.sched_getaffinity(0)),
        folder=cache_root() / "windows",
    )
    return corpus, prepared


def _synthetic(kind: str) -> Path:
    if kind not in SYNTHESIZE:
        raise ConfigError(f"corpus.root: there is no synthetic corpus of kind {kind}; name the folder of yours")
    root = cache_root() / "corpora" / f"synthetic-{kind}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # two runs at once must not draw it twice
        SYNTHESIZE[kind](root)
    return root


def _feature_windows(config: RunConfig, features: FeatureCorpus) -> tuple[Corpus, CorpusWindows]:
    if features.task != config.task:
        raise ConfigError(f"corpus.task: the recipe says {config.task}, but {features.name} is for {features.task}")
    corpus, prepared = feature_windows(features, config.inputs, config.modalities)
    if not config.corpus.levels or config.corpus.levels == corpus.levels:
        return corpus, prepared
    numbers = _numbers(corpus, config.corpus.levels)
    targets = torch.tensor([numbers.get(int(target), -1) for target in prepared.windows.targets])
    windows = replace(prepared.windows, targets=targets).pick((targets >= 0) | (prepared.windows.targets < 0))
    clips = tuple(replace(clip, level=None if clip.level is None else numbers.get(clip.level)) for clip in corpus.clips)
    return replace(corpus, clips=clips, levels=config.corpus.levels), prepared._replace(windows=windows)


def only_levels(corpus: Corpus, levels: tuple[str, ...]) -> Corpus:
    """The clips of `levels` alone, in that order; all where none are named. ConfigError for one that is not there."""
    if not levels:
        return corpus
    numbers = _numbers(corpus, levels)
    clips: list[Clip] = [replace(c, level=numbers[c.level]) for c in corpus.clips if c.level in numbers]
    return replace(corpus, levels=levels, clips=tuple(clips))


def _numbers(corpus: Corpus, levels: tuple[str, ...]) -> dict[int | None, int]:
    """The corpus's number of each level to the recipe's."""
    if absent := [level for level in levels if level not in corpus.levels]:
        known = ", ".join(corpus.levels) or "no levels"
        raise ConfigError(f"corpus.levels: {corpus.name} has no {absent[0]!r}; it has {known}")
    return {corpus.levels.index(level): number for number, level in enumerate(levels)}
