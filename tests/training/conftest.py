"""A toy setting: a few invented people whose tensors carry their label, so that stages run in seconds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from models.nets.network import NetworkSpec
from models.spec import FaceSpec, FeatureSpec, InputSpec, LogMelSpec, SignalSpec
from training.config import CorpusConfig, RunConfig
from training.corpora.clip import Clip, Corpus
from training.corpora.splits import PARTS, split_clips
from training.data.window_set import WindowSet
from training.data.windows import FrameLabels
from training.stage_config import SplitConfig, StageConfig, StudentConfig, TeacherConfig, TNetConfig
from training.stages.setting import Setting

PEOPLE = 12
CLIPS_EACH = 5
LEVELS = ("BL1", "PA1", "PA2", "PA3", "PA4")
KINDS = {"pain": "biovid", "valence-arousal": "affwild2", "classification": "features", "regression": "features"}
MODALITIES = {"pain": ("face", "eda"), "valence-arousal": ("face", "voice")}
STUDENTS = {"valence-arousal": (("face",), ("voice",), ("face", "voice"))}


def _inputs(task: str) -> InputSpec:
    if KINDS[task] == "features":
        features = {"face": FeatureSpec(shape=(6,)), "text": FeatureSpec(shape=(7, 3))}
        return InputSpec(window_s=2.0, hop_s=2.0, features=features)
    return InputSpec(
        window_s=2.0,
        hop_s=2.0,
        face=FaceSpec(frames=4, size_px=32),
        voice=None if task == "pain" else LogMelSpec(mels=16),
        signals={"eda": SignalSpec(channels=("gsr",), rate_hz=16)} if task == "pain" else {},
    )


def _config(task: str) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": f"toy-{task}",
            "corpus": CorpusConfig(kind=KINDS[task], task=task),
            "inputs": _inputs(task),
            "modalities": MODALITIES.get(task, ("face", "text")),
            "students": STUDENTS.get(task, (("face",),)),
            "network": NetworkSpec(),
            "splits": SplitConfig(folds=4),
            "encoders": StageConfig(epochs=5, batch=8),
            "teacher": TeacherConfig(epochs=3, batch=8),
            "tnet": TNetConfig(epochs=60, batch=8),
            "student": StudentConfig(epochs=4, batch=8, k=4),
            "tracker": "none",
        }
    )


def _tensor(name: str, config: RunConfig, truth: np.ndarray, noise: np.random.Generator) -> torch.Tensor:
    """The truth (N,) in [0, 1], spread over the tensor, under noise."""
    shape = (len(truth), *config.inputs.shape(name))
    flat = truth.reshape(-1, *([1] * (len(shape) - 1)))
    if config.inputs.dtype(name) == "uint8":
        return torch.from_numpy((80 + 100 * flat + noise.normal(0, 20, shape)).clip(0, 255).astype(np.uint8))
    if name == "voice":  # in its timbre: the encoder does not hear how loud a recording is
        flat = flat * np.linspace(-2, 2, shape[1])[:, None]
    return torch.from_numpy((3 * flat + noise.normal(0, 0.3, shape)).astype(np.float32))


def make_toy_setting(task: str, scratch: Path) -> Setting:
    """For each of the four tasks."""
    config, noise = _config(task), np.random.default_rng(5)
    n = PEOPLE * CLIPS_EACH
    ordered = task in ("pain", "classification")
    person, level = np.repeat(np.arange(PEOPLE), CLIPS_EACH), np.tile(np.arange(CLIPS_EACH), PEOPLE)
    truth = level / (CLIPS_EACH - 1)
    values = np.stack([2 * truth - 1, 1 - 2 * truth], axis=1).astype(np.float32) * 0.8
    people = tuple(f"person{p:02d}" for p in range(PEOPLE))
    labels = [np.tile(values[i], (50, 1)) if task == "valence-arousal" else None for i in range(n)]
    clips = tuple(
        Clip(f"clip{i}", people[person[i]], video=None, level=int(level[i]) if ordered else None, labels=labels[i])
        for i in range(n)
    )
    windows = WindowSet(
        store={name: _tensor(name, config, truth, noise) for name in config.modalities},
        rows=torch.arange(n),
        observed={name: torch.ones(n, dtype=torch.bool) for name in config.modalities},
        targets=torch.from_numpy(level.astype(np.int64)) if ordered else torch.from_numpy(values),
        person=torch.from_numpy(person),
        clip=torch.arange(n),
        spans_s=torch.tensor([[0.0, 2.0]], dtype=torch.float64).repeat(n, 1),
        people=people,
    )
    split = split_clips(clips, config.splits, 0)
    parts = {part: windows.of_clips([clip.id in getattr(split, part) for clip in clips]) for part in PARTS}
    return Setting(
        config=config,
        corpus=Corpus(
            name=config.corpus.kind,
            task=config.task,
            levels=LEVELS if ordered else (),
            clips=clips,
            signal_columns=(),
            synthetic=True,
            licence="CC0",
            values=("a", "b") if task == "regression" else (),
        ),
        split=split,
        frames=tuple(None if own is None else FrameLabels(np.arange(50) / 25, own) for own in labels),
        device=torch.device("cpu"),
        scratch=scratch,
        **parts,
    )


@pytest.fixture
def toy_setting(tmp_path: Path) -> Callable[[str], Setting]:
    """`toy_setting(task)`: as `make_toy_setting`, in the test's folder."""
    return partial(make_toy_setting, scratch=tmp_path)
