"""Before the first stage: read the corpus, prepare its windows, and deal the people into parts."""

import os
from pathlib import Path

import torch

from training.cache_folder import cache_root
from training.config import RunConfig
from training.corpora.affwild2 import read_affwild2
from training.corpora.biovid import read_biovid
from training.corpora.clip import Corpus
from training.corpora.splits import split_people
from training.corpora.synthetic import synthesize_affwild2, synthesize_biovid
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
    return Setting(
        config=config,
        corpus=corpus,
        split=split,
        train=windows.of_people(split.train).labelled(),
        select=windows.of_people(split.select).labelled(),
        calibrate=windows.of_people(split.calibrate).labelled(),
        test=windows.of_people(split.test),
        frames=prepared.frames,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        scratch=scratch,
    )


def read_corpus(config: RunConfig) -> Corpus:
    """The corpus of the configuration; the synthetic one is written into the cache on first use."""
    kind, root = config.corpus.kind, config.corpus.root
    if root is None:
        root = cache_root() / "corpora" / f"synthetic-{kind}"
        if kind == "biovid":
            synthesize_biovid(root)
        else:
            synthesize_affwild2(root)
    return read_biovid(root) if kind == "biovid" else read_affwild2(root)
