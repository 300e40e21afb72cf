"""A toy setting: a few invented people whose tensors carry their label, so that stages run in seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.spec import FaceSpec, InputSpec, SignalSpec, VoiceSpec
from training.config import CorpusConfig, RunConfig, StageConfig, StudentConfig
from training.corpora.clip import Clip, Corpus
from training.corpora.splits import split_people
from training.data import WindowSet
from training.stages.setting import Setting
from training.windows import FrameLabels

PEOPLE = 12
CLIPS_EACH = 5
LEVELS = ("BL1", "PA1", "PA2", "PA3", "PA4")


def _config(task: str) -> RunConfig:
    pain = task == "pain"
    return RunConfig(
        name=f"toy-{task}",
        corpus=CorpusConfig(kind="biovid" if pain else "affwild2"),
        inputs=InputSpec(
            window_s=2.0,
            hop_s=2.0,
            face=FaceSpec(frames=4, size_px=32),
            voice=None if pain else VoiceSpec(mels=16),
            signals={"eda": SignalSpec(channels=("gsr",), rate_hz=16)} if pain else {},
        ),
        modalities=("face", "eda") if pain else ("face", "voice"),
        students=(("face",),) if pain else (("face",), ("voice",), ("face", "voice")),
        encoders=StageConfig(epochs=5, batch=8),
        teacher=StageConfig(epochs=3, batch=8),
        tnet=StageConfig(epochs=60, batch=8),
        student=StudentConfig(epochs=4, batch=8, k=4),
    )


def _tensor(name: str, config: RunConfig, truth: np.ndarray, noise: np.random.Generator) -> torch.Tensor:
    """The truth (N,) in [0, 1], spread over the tensor, under noise."""
    shape = (len(truth), *config.inputs.shape(name))
    flat = truth.reshape(-1, *([1] * (len(shape) - 1)))
    if name == "face":
        return torch.from_numpy((80 + 100 * flat + noise.normal(0, 20, shape)).clip(0, 255).astype(np.uint8))
    if name == "voice":  # in its timbre: the encoder does not hear how loud a recording is
        flat = flat * np.linspace(-2, 2, shape[1])[:, None]
    return torch.from_numpy((3 * flat + noise.normal(0, 0.3, shape)).astype(np.float32))


@pytest.fixture
def toy_setting(tmp_path: Path) -> Callable[[str], Setting]:
    """`toy_setting("pain")` or `toy_setting("valence-arousal")`."""

    def make(task: str) -> Setting:
        config, noise = _config(task), np.random.default_rng(5)
        n = PEOPLE * CLIPS_EACH
        person, level = np.repeat(np.arange(PEOPLE), CLIPS_EACH), np.tile(np.arange(CLIPS_EACH), PEOPLE)
        truth = level / (CLIPS_EACH - 1)
        values = np.stack([2 * truth - 1, 1 - 2 * truth], axis=1).astype(np.float32) * 0.8
        people = tuple(f"person{p:02d}" for p in range(PEOPLE))
        labels = [np.tile(values[i], (50, 1)) for i in range(n)]
        clips = tuple(
            Clip(
                f"clip{i}",
                people[person[i]],
                video=None,
                level=int(level[i]),
                labels=None if task == "pain" else labels[i],
            )
            for i in range(n)
        )
        windows = WindowSet(
            tensors={name: _tensor(name, config, truth, noise) for name in config.modalities},
            observed={name: torch.ones(n, dtype=torch.bool) for name in config.modalities},
            targets=torch.from_numpy(level.astype(np.int64)) if task == "pain" else torch.from_numpy(values),
            person=torch.from_numpy(person),
            clip=torch.arange(n),
            spans_s=torch.tensor([[0.0, 2.0]], dtype=torch.float64).repeat(n, 1),
            people=people,
        )
        split = split_people(clips, config.splits)
        return Setting(
            config=config,
            corpus=Corpus(config.corpus.kind, config.task, LEVELS if task == "pain" else (), clips, (), True, "CC0"),
            split=split,
            train=windows.of_people(split.train),
            select=windows.of_people(split.select),
            calibrate=windows.of_people(split.calibrate),
            test=windows.of_people(split.test),
            frames=tuple(None if task == "pain" else FrameLabels(np.arange(50) / 25, labels[i]) for i in range(n)),
            device=torch.device("cpu"),
            scratch=tmp_path,
        )

    return make
