"""The answers, as users' programs see them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import CalibrationKind
from models.spec import Task

API_VERSION = "1.0"

Reason = Literal["no_face", "too_short", "silent", "undecodable", "not_computable"]
Box = Annotated[tuple[int, int, int, int], Field(description="x, y, width, height in pixels of the displayed picture")]


class Reply(BaseModel):
    """Frozen; every number is finite."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class BundleReply(Reply):
    name: str
    version: str
    trained_on: str


class Modalities(Reply):
    observed: list[str]
    hallucinated: list[str]


class MediaReply(Reply):
    duration_s: float
    fps: float | None
    width: int | None
    height: int | None
    has_audio: bool


class FaceReply(Reply):
    face_id: int
    first_s: float
    last_s: float
    windows: int
    answered: int


class Quality(Reply):
    face_score: float
    blur: float
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    static: bool


class FrameReply(Reply):
    time_s: float
    box: Box
    score: float


class WindowReply(Reply):
    """One window; where `reason` is not null, it could not be answered."""

    start_s: float
    end_s: float
    face_id: int | None
    observed: list[str]
    hallucinated: list[str]
    face_coverage: float | None = Field(description="share of the window's frames that show the face")
    face_box: Box | None
    face_time_s: float | None
    quality: Quality | None
    frames: list[FrameReply] | None = Field(default=None, description="only with detail=frames")


class PainReply(Reply):
    level: str
    expected: float = Field(description="sum of index times probability, the index counting from 0")
    probabilities: dict[str, float]
    conformal_set: list[str] | None = Field(serialization_alias="set", description="null where it is not calibrated")


class ValueReply(Reply):
    value: Annotated[float, Field(ge=-1, le=1)]
    interval: tuple[float, float] | None = Field(description="null where it is not calibrated")


class PainWindow(WindowReply):
    pain: PainReply | None
    reason: Reason | None


class AffectWindow(WindowReply):
    valence: ValueReply | None
    arousal: ValueReply | None
    reason: Reason | None


class Spread(Reply):
    mean: float
    min: float
    max: float


class ExpectedSpread(Reply):
    expected: Spread


class PainSummary(Reply):
    windows: int
    answered: int
    pain: ExpectedSpread | None


class AffectSummary(Reply):
    windows: int
    answered: int
    valence: Spread | None
    arousal: Spread | None


class Timing(Reply):
    upload: float
    decode: float
    face: float
    queue: float
    inference: float
    total: float


class AnswerHead(Reply):
    """What every answer begins with."""

    api_version: str
    task: Task
    request_id: str
    bundle: BundleReply
    warnings: list[str]
    modalities: Modalities
    confidence_level: float
    media: MediaReply
    faces: list[FaceReply]


class PainAnswerReply(AnswerHead):
    levels: list[str]
    windows: list[PainWindow]
    summary: PainSummary
    timing_ms: Timing


class AffectAnswerReply(AnswerHead):
    windows: list[AffectWindow]
    summary: AffectSummary
    timing_ms: Timing


class FieldProblem(Reply):
    field: str
    detail: str


class Problem(Reply):
    """application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldProblem] | None = Field(default=None, description="with the code invalid_field")


class Health(Reply):
    status: Literal["ok", "starting", "draining", "stalled", "failed"]


class CoverageReply(Reply):
    """How often one output's sets or intervals held the truth on the test people, as shares of a person's windows."""

    mean: float = Field(description="over people")
    tenth_percentile: float = Field(description="a tenth of the people were covered less often")
    width: float = Field(description="mean size of the sets, or width of the intervals in units of the output")
    people: int


class CalibrationReply(Reply):
    """What a graph's sets and intervals are worth."""

    kind: CalibrationKind = Field(
        description="conformal: holds for a window of a new person; heuristic: promises nothing; none: there are none"
    )
    confidence_level: float
    people: int = Field(description="whose scores it is from")
    reason: str | None = Field(description="why it is not conformal")
    coverage: dict[str, CoverageReply] = Field(description="by output; empty where it was not measured")


class GraphReply(Reply):
    available: list[str]
    hallucinated: list[str]
    calibration: CalibrationReply


class BundleEntry(Reply):
    name: str
    version: str
    role: Literal["bundle", "canary", "shadow"]


class ReloadReply(Reply):
    """What a reload has changed."""

    loaded: list[BundleEntry]
    kept: list[BundleEntry]
    removed: list[BundleEntry]
    took_s: float


class ModelReply(Reply):
    name: str
    version: str
    role: Literal["bundle", "canary", "shadow"] = Field(
        description="a canary answers some of the requests to the bundle of its name; a shadow answers nobody"
    )
    share: float = Field(description="of the requests that it answers; of the windows that a shadow runs on")
    task: Task
    levels: list[str]
    graphs: list[GraphReply]
    window_s: float
    hop_s: float
    trained_on: str
    synthetic: bool
    protocol: str
    warnings: list[str]
    metrics: dict[str, float]
    licences: dict[str, str]


class Versions(Reply):
    version: str = Field(description="of pkdot")
    ffmpeg: str
    onnxruntime: str
    provider: str


class ModelsReply(Reply):
    models: list[ModelReply]
    versions: Versions
