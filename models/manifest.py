"""The bundle's manifest: everything a service must know about a student, in one validated file."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.spec import InputSpec, Modality, Spec, Task

SCHEMA_VERSION = "1.4"

RelativePath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)*$")
]
"""A file inside the bundle, with forward slashes; the pattern leaves no way to write `..` or an absolute path."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Coverage(Spec):
    """How often one output's sets or intervals held the truth on the test people, as shares of a person's windows."""

    mean: Annotated[float, Field(ge=0, le=1)]
    """Over people."""
    tenth_percentile: Annotated[float, Field(ge=0, le=1)]
    """A tenth of the people were covered less often."""
    width: float
    """Mean size of the sets, or width of the intervals in units of the output."""
    people: Annotated[int, Field(ge=1)]


CalibrationKind = Literal["conformal", "heuristic", "none"]


class Calibration(Spec):
    """Conformal quantiles of one graph for a new person, from people whom nothing else has seen, or a heuristic."""

    confidence_level: Annotated[float, Field(gt=0, lt=1)] = 0.9
    quantiles: dict[str, float | None]
    """Per output (`output_names`) the quantile of its score; None where none is valid."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Logits are divided by it before they become probabilities; fitted on the selection people."""
    people: Annotated[int, Field(ge=0)]
    """Whose scores the quantiles are of."""
    windows: Annotated[int, Field(ge=0)]
    heuristic: bool = False
    """Whether the quantiles are pooled out-of-fold ones, which promise nothing for a new person."""
    reason: str | None = None
    """Why a quantile is None, or only a heuristic, in a sentence for the card."""
    coverage: dict[str, Coverage] = Field(default_factory=dict)
    """By output; empty where it was not measured."""

    @property
    def kind(self) -> CalibrationKind:
        """What sets and intervals are worth; `none` where no output has any."""
        if all(quantile is None for quantile in self.quantiles.values()):
            return "none"
        return "heuristic" if self.heuristic else "conformal"


class Moments(Spec):
    """What a number was like over many windows."""

    mean: Annotated[float, Field(allow_inf_nan=False)]
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    windows: Annotated[int, Field(ge=2)]


class GraphSpec(Spec):
    """One ONNX graph: the student for one set of available modalities, its T-Net inside."""

    available: Annotated[tuple[Modality, ...], Field(min_length=1)]
    hallucinated: tuple[Modality, ...]
    file: RelativePath
    inputs: dict[Modality, str]
    """Modality to graph input; each input is (batch, *InputSpec.shape)."""
    output: str
    """pain: CORN logits (batch, levels - 1); valence-arousal: (batch, 2) in [-1, 1], valence first; classification:
    logits (batch, levels); regression: (batch, values)."""
    uncertainty: dict[Modality, str] = Field(default_factory=dict)
    """Hallucinated modality to graph output (batch,): the logarithm of the squared error that the T-Net expects of
    itself, in units of the training variance; 0 is a guess no better than the mean."""
    uncertainty_reference: dict[Modality, Moments] = Field(default_factory=dict)
    """That output's moments over windows of the selection people: the training corpus, seen by no weight. From them a
    service tells how unusual what it is asked is. A modality is left out where the output does not vary."""
    golden: RelativePath
    """npz: one array per modality, and `output`, as torch computed it before export."""
    golden_tolerance: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    output_scale: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """regression: the standard deviation of each value's training targets, in which `golden_tolerance` counts. Empty
    where outputs have no unit, and in bundles of earlier versions: then it is 1."""
    calibration: Calibration

    @model_validator(mode="after")
    def every_available_modality_is_an_input(self) -> Self:
        if set(self.inputs) != set(self.available):
            raise ValueError(f"graph {self.file}: inputs {sorted(self.inputs)} differ from {sorted(self.available)}")
        return self


class FaceNetFiles(Spec):
    """The nets that find the face; carried so that a service needs no network and no other source."""

    detector_short: RelativePath
    detector_full: RelativePath
    landmarks: RelativePath


class Provenance(Spec):
    """Where the numbers come from."""

    trained_on: str
    """`biovid`, `affwild2`, … or `synthetic biovid`: drawn people, whose answers on real ones mean nothing."""
    synthetic: bool
    protocol: str
    notes: tuple[str, ...] = ()
    """What else every result must say of how it was made, in sentences."""
    metrics: dict[str, float]
    git_revision: str | None
    """Of the code that exported; it ends in `-dirty` where files of its checkout were not committed."""
    licences: dict[str, str]


class Manifest(Spec):
    """`manifest.json`."""

    schema_version: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    task: Task
    levels: tuple[str, ...] = ()
    """Pain's levels in rising order, or classification's classes; empty for the others."""
    values: tuple[str, ...] = ()
    """The names of regression's outputs; empty for the others."""
    prevalent: tuple[Modality, ...]
    privileged: tuple[Modality, ...]
    inputs: InputSpec
    graphs: Annotated[tuple[GraphSpec, ...], Field(min_length=1)]
    face: FaceNetFiles | None
    provenance: Provenance
    files: dict[RelativePath, Sha256]
    """SHA-256 of every file of the bundle but this one."""

    @model_validator(mode="after")
    def parts_fit_together(self) -> Self:
        if (self.task in ("pain", "classification")) != (len(self.levels) >= 2):
            raise ValueError(
                f"{self.task} has {len(self.levels)} levels: pain and classification need two, others none"
            )
        if (self.task == "regression") != bool(self.values):
            raise ValueError(
                f"{self.task} has {len(self.values)} values: only regression names its values, at least one"
            )
        sets = [frozenset(graph.available) for graph in self.graphs]
        if len(set(sets)) != len(sets):
            raise ValueError("two graphs serve the same set of available modalities")
        outputs = set(output_names(self.task, self.values))
        for graph in self.graphs:
            for modality in graph.available:
                self.require_input(modality)
            if graph.output_scale and len(graph.output_scale) != len(self.values):
                raise ValueError(
                    f"graph {graph.file}: output_scale holds {len(graph.output_scale)} of {len(self.values)} values"
                )
            if set(graph.calibration.quantiles) != outputs:
                raise ValueError(f"graph {graph.file}: calibration must name exactly {sorted(outputs)}")
            if not set(graph.uncertainty) <= set(graph.hallucinated):
                raise ValueError(f"graph {graph.file}: uncertainty of what it does not hallucinate")
            if not set(graph.uncertainty_reference) <= set(graph.uncertainty):
                raise ValueError(f"graph {graph.file}: reference for an uncertainty that it does not put out")
        named = {name for graph in self.graphs for name in (graph.file, graph.golden)}
        named |= set(self.face.model_dump().values()) if self.face else set()
        if missing := sorted(named - set(self.files)):
            raise ValueError(f"files without a hash: {', '.join(missing)}")
        return self

    def require_input(self, modality: str) -> None:
        """ValueError unless the input specification feeds `modality`."""
        try:
            self.inputs.shape(modality)
        except KeyError:
            raise ValueError(f"a graph takes {modality!r}, which the input specification does not describe") from None

    def graph_for(self, available: frozenset[str]) -> GraphSpec | None:
        """The graph that uses most of what is available; None if none can be fed. Ties: the manifest's order."""
        usable = [graph for graph in self.graphs if set(graph.available) <= available]
        return max(usable, key=lambda graph: len(graph.available), default=None)


def output_names(task: Task, values: Sequence[str]) -> tuple[str, ...]:
    """What a calibration has a quantile for."""
    if task == "regression":
        return tuple(values)
    return {"pain": ("pain",), "classification": ("class",), "valence-arousal": ("valence", "arousal")}[task]


def output_width(task: Task, levels: Sequence[str], values: Sequence[str]) -> int:
    """How many numbers a graph gives for a window: pain's CORN logits are one fewer than its levels."""
    return {"pain": len(levels) - 1, "classification": len(levels), "valence-arousal": 2, "regression": len(values)}[
        task
    ]


SchemaSupport = Literal["whole", "known part", "newer", "older"]


def schema_support(version: str) -> SchemaSupport:
    """This code reads its own major version and the one before. A later minor version only adds: that is skipped.

    >>> schema_support("1.0"), schema_support("1.7"), schema_support("2.0")
    ('whole', 'known part', 'newer')
    """
    major, minor = (int(part) for part in version.split("."))
    own_major, own_minor = (int(part) for part in SCHEMA_VERSION.split("."))
    if major > own_major:
        return "newer"
    if major < own_major - 1:
        return "older"
    return "known part" if (major, minor) > (own_major, own_minor) else "whole"
