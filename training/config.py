"""What one run is told: typed, validated once, unknown keys refused.

A recipe is a YAML file (`training/configs`); `--set student.ot_weight=0.4` changes one value of it.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import BaseModel, Field, Tag, ValidationError, field_validator, model_validator

from models.inputs.signals import PREPARATIONS
from models.inputs.voice import mel_filters
from models.nets.encoder_spec import encoders_of
from models.nets.network import NetworkSpec
from models.spec import FACE, VOICE, InputSpec, LogMelSpec, Modality, Task, WaveformSpec, key_of
from training.files.yaml_text import YamlTextError, read_yaml
from training.stage_config import (
    CalibrationConfig,
    Config,
    LabelsConfig,
    Seed,
    Share,
    SplitConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
    TNetConfig,
)

TAKEN: Final = ("output", "file", "allow_pickle")
"""Names that a graph's output and the arguments of `numpy.savez` have."""
TAKEN_PREFIX: Final = "uncertainty_"
"""Of a graph's other outputs."""
A_LIST: Final = "expected a list, written as [a, b]"
KEYS: Final = "expected keys, written as {{key: value}}"
TRUTH: Final = "expected true or false"
SAID_OF_YAML: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tuple_type": A_LIST,
        "too_short": "expected a list of at least {min_length}, got {actual_length}",
        "too_long": "expected a list of at most {max_length}, got {actual_length}",
        "dict_type": KEYS,
        "model_type": KEYS,
        "bool_type": TRUTH,
        "bool_parsing": TRUTH,
        "path_type": "expected a path, written as text",
    }
)
"""Where pydantic's own words are Python's: by its error's type, with names of the error's context."""
TASKS: dict[str, Task] = {"biovid": "pain", "affwild2": "valence-arousal"}
"""Of corpora that have one task."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the file and the key."""


class CorpusConfig(Config):
    kind: Literal["biovid", "affwild2", "features", "bids"]
    root: Path | None = None
    """Where the corpus lies; null takes the synthetic corpus of this kind, written into the cache on first use."""
    task: Task | None = None
    """What a feature corpus is for; BioVid and Affwild2 say it themselves."""
    levels: tuple[str, ...] = ()
    """Only these levels or classes, in this order, e.g. `[BL1, PA4]`; empty for all."""
    aligned: bool = False
    """Affwild2: take the faces that its owners cropped, where they are there; the video then gives sound and times."""
    standardise_by_person: tuple[Modality, ...] = ()
    """Signals and features, of `modalities`, that are centred and scaled over all recordings of a person, who must be
    known then."""

    @model_validator(mode="after")
    def the_task_is_known(self) -> Self:
        own = TASKS.get(self.kind)
        if own is None and self.task is None:
            raise ValueError(f"a corpus of kind {self.kind} needs `task`: what are its labels?")
        if own is not None and self.task not in (None, own):
            raise ValueError(f"task: {self.kind} is a corpus of {own}, not of {self.task}")
        if len(set(self.levels)) != len(self.levels) or len(self.levels) == 1:
            raise ValueError(f"levels: {list(self.levels)} must name two or more, each once")
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
    fold: Annotated[int, Field(ge=0)] = 0
    """Which of the protocol's folds is tested."""
    labels: LabelsConfig = LabelsConfig()
    encoders: StageConfig = StageConfig()
    teacher: TeacherConfig = TeacherConfig()
    tnet: TNetConfig = TNetConfig()
    student: StudentConfig = StudentConfig()
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the networks while they train; losses are always in float32."""
    tracker: Literal["tensorboard", "mlflow", "none"] = "tensorboard"
    """Where the curves of a run go."""
    confidence_level: Share = 0.9
    """Of sets and intervals, for a window of a new person."""
    calibration: CalibrationConfig = CalibrationConfig()
    seed: Seed = 0

    @field_validator("inputs")
    @classmethod
    def can_be_prepared(cls, inputs: InputSpec) -> InputSpec:
        if isinstance(inputs.voice, LogMelSpec):
            mel_filters(inputs.voice)
        for name, signal in inputs.signals.items():
            if not signal.samples(inputs.window_s):
                raise ValueError(
                    f"signals.{name}.rate_hz is {signal.rate_hz:g}, at which a window of {inputs.window_s:g} s holds "
                    f"no sample; set it to {1 / inputs.window_s:g} or more"
                )
        return inputs

    @model_validator(mode="after")
    def signals_can_be_prepared(self) -> Self:
        unknown = sorted(set(self.inputs.signals) - set(PREPARATIONS))
        if unknown and self.corpus.kind == "biovid":
            raise ValueError(
                f"inputs: no preparation for the signal {unknown[0]!r}, only for {', '.join(PREPARATIONS)}"
            )
        return self

    @model_validator(mode="after")
    def sets_fit_together(self) -> Self:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities: {list(self.modalities)} names one twice")
        for modality in self.modalities:
            if is_taken(modality):
                raise ValueError(f"modalities: networks and bundles use {modality!r} themselves; give it another name")
            try:
                self.inputs.shape(modality)
            except KeyError:
                raise ValueError(f"modalities: inputs does not describe {modality!r}") from None
        for available in self.students:
            if not available or not set(available) <= set(self.modalities):
                raise ValueError(f"students: {list(available)} is not a non-empty part of {list(self.modalities)}")
            if available != tuple(name for name in self.modalities if name in available):
                raise ValueError(f"students: {list(available)} must follow the order of {list(self.modalities)}")
            if self.corpus.kind in TASKS and not set(available) <= {FACE, VOICE}:
                raise ValueError(f"students: {list(available)}: a service can see a face and hear a voice, no more")
        if len({frozenset(available) for available in self.students}) != len(self.students):
            raise ValueError("students: the same set is named twice")
        return self

    @model_validator(mode="after")
    def encoders_fit_their_modalities(self) -> Self:
        for modality, encoder in self.network.encoders.items():
            if modality not in self.modalities:
                raise ValueError(f"network.encoders: {modality!r} is not one of modalities {list(self.modalities)}")
            if encoder.name not in (possible := encoders_of(modality, self.inputs)):
                raise ValueError(f"network.encoders: {modality} cannot have {encoder.name}, only {', '.join(possible)}")
            if encoder.weights is not None and not encoder.weights.is_file():
                raise ValueError(f"network.encoders.{modality}.weights: {encoder.weights} is not a file")
        return self

    @model_validator(mode="after")
    def a_waveform_has_a_model_that_hears_it(self) -> Self:
        own_encoder = VOICE in self.modalities and VOICE not in self.inputs.features
        if own_encoder and isinstance(self.inputs.voice, WaveformSpec):
            name = self.network.encoder(VOICE).name
            if name != "huggingface":
                raise ValueError(
                    f"network.encoders.voice: {name} hears no waveform; set it to {{name: huggingface, model: …}} with "
                    "a folder or an id such as facebook/wav2vec2-base, or take inputs.voice.form: log-mel"
                )
        return self

    @model_validator(mode="after")
    def persons_scale_numbers(self) -> Self:
        numbers = {*self.inputs.signals, *self.inputs.features}
        for modality in self.corpus.standardise_by_person:
            if modality not in self.modalities or modality not in numbers:
                possible = [name for name in self.modalities if name in numbers]
                raise ValueError(
                    f"corpus.standardise_by_person: {modality!r} is not one of the signals and features among "
                    f"modalities, which are {possible}"
                )
        return self

    @model_validator(mode="after")
    def somebody_is_new_where_sets_hold_for_a_new_person(self) -> Self:
        if self.splits.protocol == "clip-kfold" and self.calibration.few_people != "none":
            raise ValueError(
                f"calibration.few_people: {self.calibration.few_people} does nothing with splits.protocol clip-kfold: "
                "every person trains there, so that no set or interval is given; leave one of them out"
            )
        return self

    @property
    def task(self) -> Task:
        task = TASKS.get(self.corpus.kind, self.corpus.task)
        assert task is not None  # the corpus's validator saw to it
        return task

    def missing(self, available: Sequence[str]) -> tuple[str, ...]:
        """What a student with `available` must hallucinate, in the teacher's order."""
        return tuple(name for name in self.modalities if name not in available)


def is_taken(modality: str) -> bool:
    """Whether a network or a bundle uses this name itself."""
    if modality in (FACE, VOICE, *PREPARATIONS):
        return False
    from torch import nn  # seconds, which a command that was mistyped need not take

    holder = nn.ModuleDict()  # of a network's encoders
    return modality in TAKEN or modality.startswith(TAKEN_PREFIX) or hasattr(holder, modality)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a recipe and apply `a.b=value` overrides (values in YAML); ConfigError names the key that is wrong."""
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            f"{path} cannot be read; name a YAML file such as training/configs/synthetic-pain.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {error}") from None
    except YamlTextError as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys; a recipe begins with `name:`")
    for override in overrides:
        _set(values, override)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {where(error)}: {reason(error)}") from None


def where(error: ValidationError) -> str:
    """The first key that `error` names; `recipe` for what is of several."""
    return key_of(error.errors()[0]["loc"]) or "recipe"


def reason(error: ValidationError) -> str:
    """What is wrong with the first key that `error` names, and of a key that there is not, which ones there are."""
    first = error.errors()[0]
    if first["type"] in SAID_OF_YAML:
        return SAID_OF_YAML[first["type"]].format_map(first.get("ctx", {}))
    if first["type"] != "extra_forbidden":
        return first["msg"].removeprefix("Value error, ")
    *section, key = first["loc"]
    known = _keys(RunConfig, section)
    nearest = get_close_matches(str(key), known)
    if nearest:
        return f"there is no such key; did you mean {' or '.join(nearest)}?"
    return f"there is no such key; expected one of {', '.join(known)}"


def _keys(kind: Any, section: Sequence[int | str]) -> list[str]:
    """The keys of the model at `section` below the type `kind`: a model, a dict of such, or a choice of these."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields
        return _keys(fields[str(section[0])].annotation, section[1:]) if section else list(fields)
    if get_origin(kind) is dict:
        return _keys(get_args(kind)[1], section[1:])
    options = get_args(kind)
    for option in options:
        if section and Tag(str(section[0])) in get_args(option):
            return _keys(option, section[1:])
    return [key for option in options for key in _keys(option, section)]


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
        at[last] = read_yaml(text)
    except YamlTextError as error:
        raise ConfigError(f"--set {key}: {text!r} is not a value in YAML: {error}") from None
