"""What one run is told: typed, validated once, unknown keys refused.

A recipe is a YAML file (`training/configs`); `--set student.ot_weight=0.4` changes one value of it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.inputs.signals import PREPARATIONS
from models.inputs.voice import mel_filters
from models.nets.network import NetworkSpec
from models.spec import FACE, VOICE, InputSpec, Modality, Task

Share = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0)]


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the file and the key."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusConfig(Config):
    kind: Literal["biovid", "affwild2"]
    root: Path | None = None
    """Where the corpus lies; null takes the synthetic corpus of this kind, written into the cache on first use."""


class SplitConfig(Config):
    """Shares of the people. Each person is in one part only; where the corpus has its own test split, that is used."""

    test: Share = 0.25
    select: Share = 0.15
    """Choose the epoch."""
    calibrate: Share = 0.2
    """Fit the conformal quantiles, nothing else."""
    seed: Seed = 0

    @model_validator(mode="after")
    def some_are_left_for_training(self) -> Self:
        if self.test + self.select + self.calibrate >= 0.9:
            raise ValueError("test, select and calibrate together leave under a tenth of the people for training")
        return self


class StageConfig(Config):
    epochs: Annotated[int, Field(ge=1)] = 10
    batch: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Weight = 1e-2


class StudentConfig(StageConfig):
    """The student's stage: L = L_task + tnet_weight · L_TNet + ot_weight · L_OT."""

    tnet_weight: Weight = 0.5
    ot_weight: Weight = 0.6
    """Lambda in the paper."""
    gradient_ratio: Weight = 0.3
    """Balanced rows of the table: how large a term's gradient at z is, in units of the task's, when stage 3 begins."""
    temperature: Annotated[float, Field(gt=0)] = 3.0
    """Of logits distillation."""
    k: Annotated[int, Field(gt=0)] = 15
    """Anchors of each row; at most `batch`."""
    anchors: Literal["farthest", "nearest", "shared"] = "farthest"
    blur: Annotated[float, Field(gt=0)] = 0.1
    normalise: bool = False
    """Divide the cost by k, so that one blur serves every k."""
    trainable: Literal["all", "fusion"] = "all"
    """`fusion` freezes the encoders and the T-Net."""

    @model_validator(mode="after")
    def anchors_come_from_the_batch(self) -> Self:
        if self.k > self.batch:
            raise ValueError(f"k is {self.k}, but a batch has only {self.batch} samples to choose anchors from")
        return self


class RunConfig(Config):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    corpus: CorpusConfig
    inputs: InputSpec
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    """What the teacher sees."""
    students: Annotated[tuple[tuple[Modality, ...], ...], Field(min_length=1)]
    """The sets of modalities that may be there in the field; one student for each."""
    network: NetworkSpec = NetworkSpec()
    splits: SplitConfig = SplitConfig()
    encoders: StageConfig = StageConfig()
    teacher: StageConfig = StageConfig()
    tnet: StageConfig = StageConfig(epochs=30, batch=64)
    student: StudentConfig = StudentConfig()
    confidence_level: Share = 0.9
    seed: Seed = 0

    @field_validator("inputs")
    @classmethod
    def can_be_prepared(cls, inputs: InputSpec) -> InputSpec:
        if unknown := sorted(set(inputs.signals) - set(PREPARATIONS)):
            raise ValueError(f"no preparation for the signal {unknown[0]!r}, only for {', '.join(PREPARATIONS)}")
        if inputs.voice is not None:
            mel_filters(inputs.voice)
        return inputs

    @model_validator(mode="after")
    def sets_fit_together(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities: {list(self.modalities)} names one twice")
        for modality in self.modalities:
            try:
                self.inputs.shape(modality)
            except KeyError:
                raise ValueError(f"modalities: inputs does not describe {modality!r}") from None
        for available in self.students:
            if not available or not set(available) <= set(self.modalities):
                raise ValueError(f"students: {list(available)} is not a non-empty part of {list(self.modalities)}")
            if available != tuple(name for name in self.modalities if name in available):
                raise ValueError(f"students: {list(available)} must follow the order of {list(self.modalities)}")
            if not set(available) <= {FACE, VOICE}:
                raise ValueError(f"students: {list(available)}: a service can see a face and hear a voice, no more")
        if len({frozenset(available) for available in self.students}) != len(self.students):
            raise ValueError("students: the same set is named twice")
        return self

    @property
    def task(self) -> Task:
        return "pain" if self.corpus.kind == "biovid" else "valence-arousal"

    def missing(self, available: Sequence[str]) -> tuple[str, ...]:
        """What a student with `available` must hallucinate, in the teacher's order."""
        return tuple(name for name in self.modalities if name not in available)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe and apply `a.b=value` overrides (values in YAML); ConfigError names the key that is wrong."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            f"{path} cannot be read; name a YAML file such as training/configs/synthetic-pain.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys; a recipe begins with `name:`")
    for override in overrides:
        _set(values, override)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key or 'recipe'}: {first['msg']}") from None


def _set(values: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {override!r}: write it as key=value, for example student.ot_weight=0.4")
    *parents, last = key.split(".")
    at = values
    for parent in parents:
        below = at.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override!r}: {parent} holds a value, not keys")
        at = below
    try:
        at[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: {text!r} is not a value in YAML") from None
