"""Before the first stage: read the corpus, prepare its windows, and deal the people into parts."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock

from training.cache_folder import cache_root
from training.config import ConfigError, RunConfig
from training.corpora.affwild2 import read_affwild2
from training.corpora.biovid import read_biovid
from training.corpora.clip import Corpus
from training.corpora.splits import SplitError, split_people
from training.corpora.synthetic import synthesize_affwild2, synthesize_biovid
from training.data import WindowSet
from training.face_nets.fetch import cached_face_nets
from training.stages.setting import Setting
from training.windows import corpus_windows


def prepare_setting(config: RunConfig, scratch: Path) -> Setting:
    """Everything the stages need. Raises CorpusError, SplitError, MediaError or FaceNetsMissingError."""
    corpus = read_corpus(config)
    prepared = corpus_windows(
        corpus,
        config.inputs,
        config.modalities,
        cached_face_nets(),
        workers=len(os.sched_getaffinity(0)),
        folder=cache_root() / "windows",
    )
    split = split_people(corpus.clips, config.splits)
    scratch.mkdir(parents=True, exist_ok=True)
    windows = prepared.windows
    setting = Setting(
        config=config,
        corpus=replace(corpus, notes=corpus.notes + prepared.notes),
        split=split,
        train=windows.of_people(split.train).labelled(),
        select=windows.of_people(split.select).labelled(),
        calibrate=windows.of_people(split.calibrate).labelled(),
        test=windows.of_people(split.test),
        frames=prepared.frames,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        scratch=scratch,
    )
    check_parts(setting)
    return setting


def check_parts(setting: Setting) -> None:
    """Raise SplitError where a part cannot do its work: better now than after hours of training."""
    config = setting.config
    for name in ("train", "select"):
        part: WindowSet = getattr(setting, name)
        needed = max(2, config.student.k) if name == "train" else 1
        if (count := len(part.with_all(config.modalities))) < needed:
            raise SplitError(
                f"the {name} people have {count} labelled windows with {', '.join(config.modalities)}; "
                f"at least {needed} are needed"
            )
    if not len(setting.test.labelled()):
        raise SplitError("the test people have no labelled window")


def read_corpus(config: RunConfig) -> Corpus:
    """The corpus of the configuration; the synthetic one is written into the cache on first use."""
    kind, root = config.corpus.kind, config.corpus.root
    if root is None:
        root = cache_root() / "corpora" / f"synthetic-{kind}"
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_suffix(".lock")):  # two runs at once must not draw it twice
            (synthesize_biovid if kind == "biovid" else synthesize_affwild2)(root)
    corpus = read_biovid(root) if kind == "biovid" else read_affwild2(root)
    for modality, signal in config.inputs.signals.items():
        if absent := [name for name in signal.channels if name not in corpus.signal_columns]:
            raise ConfigError(
                f"inputs.signals.{modality}.channels: {root} has no column {absent[0]}; "
                f"it has {', '.join(corpus.signal_columns) or 'no physiology'}"
            )
    return corpus
