"""The answers, as users' programs see them."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import CalibrationKind
from models.spec import Task

API_VERSION = "1.0"

Reason = Literal["no_face", "too_short", "silent", "undecodable", "not_computable"]
Box = tuple[int, int, int, int]
BOX: Final = "x, y, width, height in pixels of the displayed picture"


LEVEL: Final = "the answer's `confidence_level`, for a new person; null where it is not calibrated"
REASONS: Final = "why there is no answer; null where there is one"


class Reply(BaseModel):
    """Frozen; every number is finite."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class BundleReply(Reply):
    """Which bundle answered."""

    name: str = Field(description="as the field `bundle` takes it")
    version: str = Field(description="bundles of equal version answer alike")
    trained_on: str = Field(description="the corpus")


class Modalities(Reply):
    """What is so in at least one answered window."""

    observed: list[str] = Field(description="taken from the recording: face, voice")
    hallucinated: list[str] = Field(description="guessed from those by a T-Net; they add no observation")


class MediaReply(Reply):
    """The facts of the recording."""

    duration_s: float = Field(description="the longer of picture and sound")
    fps: float | None = Field(description="frames a second, on average; null without a video")
    width: int | None = Field(description="pixels of the displayed picture: turned, and not yet stretched")
    height: int | None = Field(description="as `width`")
    has_audio: bool = Field(description="whether there is a sound that can be decoded")


class FaceReply(Reply):
    """One face that was followed."""

    face_id: int = Field(description="from 0 in order of appearance; tells faces of this answer apart, and no more")
    first_s: float = Field(description="when it was seen first")
    last_s: float = Field(description="when it was seen last")
    windows: int = Field(description="in how many it was seen")
    answered: int = Field(description="how many of them were answered from it")


class Quality(Reply):
    """Of the face at `face_time_s`: to judge a crop by, not to measure a head."""

    face_score: float = Field(description="how surely it is a face, 0.5 to 1")
    blur: float = Field(description="0 (sharp) to 1; sharp portraits measure 0.4")
    yaw_deg: float = Field(description="positive when the nose points to the right of the picture")
    pitch_deg: float = Field(description="positive when the nose points up")
    roll_deg: float = Field(description="positive when the head is tilted clockwise")
    static: bool = Field(description="whether one frame only shows the face, so that no movement is seen")


class FrameReply(Reply):
    """The face in one sampled frame."""

    time_s: float = Field(description="of the frame, in seconds of the recording")
    box: Box = Field(description=BOX)
    score: float = Field(description="how surely it is a face, 0.5 to 1")


class WindowReply(Reply):
    """One window; where `reason` is not null, it could not be answered."""

    start_s: float = Field(description="begin of the window, in seconds of the recording")
    end_s: float = Field(description="its end")
    face_id: int | None = Field(description="the face that was answered from; null where there was none")
    observed: list[str] = Field(description="modalities of the recording that the answer is from")
    hallucinated: list[str] = Field(description="modalities that a T-Net guessed from those")
    face_coverage: float | None = Field(
        description="share of the window's sampled frames that show the face; null without a picture"
    )
    face_box: Box | None = Field(description=f"{BOX}, at `face_time_s`")
    face_time_s: float | None = Field(description="when the face was seen that is nearest the window's middle")
    quality: Quality | None = Field(description="of that face")
    frames: list[FrameReply] | None = Field(default=None, description="only with detail=frames")


class PainReply(Reply):
    """An estimate of the stimulus of the corpus, not of the pain that somebody feels."""

    level: str = Field(
        description="the most probable; BioVid's are heat stimuli calibrated to each person, BL1 the baseline"
    )
    expected: float = Field(description="sum of index times probability, the index counting from 0")
    probabilities: dict[str, float] = Field(description="by level; their sum is 1")
    conformal_set: list[str] | None = Field(
        serialization_alias="set", description=f"levels that hold the true one at {LEVEL}"
    )


class ValueReply(Reply):
    """Valence or arousal."""

    value: Annotated[float, Field(ge=-1, le=1)] = Field(description="-1 (unpleasant, calm) to 1 (pleasant, excited)")
    interval: tuple[float, float] | None = Field(description=f"ends between which the true value is at {LEVEL}")


class PainWindow(WindowReply):
    pain: PainReply | None = Field(description="null where `reason` says why")
    reason: Reason | None = Field(description=REASONS)


class AffectWindow(WindowReply):
    valence: ValueReply | None = Field(description="null where `reason` says why")
    arousal: ValueReply | None = Field(description="null where `reason` says why")
    reason: Reason | None = Field(description=REASONS)


class Spread(Reply):
    """Over the answered windows."""

    mean: float = Field(description="of their values")
    min: float = Field(description="of their values")
    max: float = Field(description="of their values")


class ExpectedSpread(Reply):
    """Of pain."""

    expected: Spread = Field(description="of the windows' `expected`")


class PainSummary(Reply):
    """Has no interval: none is calibrated for it."""

    windows: int = Field(description="how many objects `windows` has")
    answered: int = Field(description="how many of them have an answer")
    pain: ExpectedSpread | None = Field(description="over those")


class AffectSummary(Reply):
    """Has no interval: none is calibrated for it."""

    windows: int = Field(description="how many objects `windows` has")
    answered: int = Field(description="how many of them have an answer")
    valence: Spread | None = Field(description="over those")
    arousal: Spread | None = Field(description="over those")


class Timing(Reply):
    """Milliseconds. Stages are at work at the same time, and may add up to more than the total."""

    upload: float = Field(description="the body came")
    decode: float = Field(description="the recording was decoded")
    face: float = Field(description="faces were found and followed")
    queue: float = Field(description="windows waited for the device")
    inference: float = Field(description="the device computed")
    total: float = Field(description="from the headers to the answer")


class AnswerHead(Reply):
    """What every answer begins with."""

    api_version: str = Field(description="of these fields; an equal first number only adds some")
    task: Task = Field(description="what was asked")
    request_id: str = Field(description="the caller's X-Request-ID, or one that was drawn; the log has it too")
    bundle: BundleReply = Field(description="what answered")
    warnings: list[str] = Field(
        description="sentences, each with a stable first word: synthetic, heuristic, silent-track, low-quality, "
        "out-of-range"
    )
    modalities: Modalities = Field(description="over all answered windows; each says its own")
    confidence_level: float = Field(description="of sets and intervals, where there are any")
    media: MediaReply = Field(description="what was sent")
    faces: list[FaceReply] = Field(description="every face that was followed, by id")


class PainAnswerReply(AnswerHead):
    levels: list[str] = Field(description="the bundle's, in rising order")
    windows: list[PainWindow] = Field(description="one for each window and face, in the order of time")
    summary: PainSummary = Field(description="over all of them")
    timing_ms: Timing = Field(description="where the time went")


class AffectAnswerReply(AnswerHead):
    windows: list[AffectWindow] = Field(description="one for each window and face, in the order of time")
    summary: AffectSummary = Field(description="over all of them")
    timing_ms: Timing = Field(description="where the time went")


class FieldProblem(Reply):
    """What is wrong with one field."""

    field: str = Field(description="its name; for a header, the header's")
    detail: str = Field(description="what is wrong, and what is accepted")


class Problem(Reply):
    """application/problem+json (RFC 9457)."""

    type: str = Field(description="urn:pkdot:problem: and the code")
    title: str = Field(description="the code in words")
    status: int = Field(description="that of the answer")
    detail: str = Field(description="what was wrong, what is accepted, and what to do")
    instance: str = Field(description="urn:pkdot:request: and the request's id")
    code: str = Field(description="what programs may tell problems apart by")
    errors: list[FieldProblem] | None = Field(default=None, description="with the code invalid_field")


class Health(Reply):
    status: Literal["ok", "starting", "draining", "stalled", "failed"] = Field(
        description="stalled: there is work, and no batch has finished for too long; failed: a restart is needed"
    )


class CoverageReply(Reply):
    """How often one output's sets or intervals held the truth on the test people, as shares of a person's windows."""

    mean: float = Field(description="over people")
    tenth_percentile: float = Field(description="a tenth of the people were covered less often")
    width: float = Field(description="mean size of the sets, or width of the intervals in units of the output")
    people: int = Field(description="how many were tested")


class CalibrationReply(Reply):
    """What a graph's sets and intervals are worth."""

    kind: CalibrationKind = Field(
        description="conformal: holds for a window of a new person; heuristic: promises nothing; none: there are none"
    )
    confidence_level: float = Field(description="at which a set or interval is meant to hold the truth")
    people: int = Field(description="whose scores it is from")
    reason: str | None = Field(description="why it is not conformal")
    coverage: dict[str, CoverageReply] = Field(description="by output; empty where it was not measured")


class GraphReply(Reply):
    """The student for one set of available modalities."""

    available: list[str] = Field(description="what it is fed")
    hallucinated: list[str] = Field(description="what its T-Net guesses")
    calibration: CalibrationReply = Field(description="of its sets and intervals")


class BundleEntry(Reply):
    """A bundle that a reload met."""

    name: str = Field(description="of the bundle")
    version: str = Field(description="of the bundle")
    role: Literal["bundle", "canary", "shadow"] = Field(description="as GET /models tells it")


class ReloadReply(Reply):
    """What a reload has changed."""

    loaded: list[BundleEntry] = Field(description="new, or of a new version")
    kept: list[BundleEntry] = Field(description="as they were")
    removed: list[BundleEntry] = Field(description="no longer in the folders, or replaced")
    took_s: float = Field(description="seconds")


class ModelReply(Reply):
    """A loaded bundle, with what its card says in numbers."""

    name: str = Field(description="as the field `bundle`, and /v2, take it")
    version: str = Field(description="bundles of equal version answer alike")
    role: Literal["bundle", "canary", "shadow"] = Field(
        description="a canary answers some of the requests to the bundle of its name; a shadow answers nobody"
    )
    share: float = Field(description="of the requests that it answers; of the windows that a shadow runs on")
    task: Task = Field(description="what it answers; classification and regression by /v2 only")
    levels: list[str] = Field(description="of pain in rising order, or classes; empty for values")
    graphs: list[GraphReply] = Field(description="one for each set of modalities that may be available")
    window_s: float = Field(description="how long a window is, in seconds")
    hop_s: float = Field(description="from one window's begin to the next one's, where a request does not say")
    trained_on: str = Field(description="the corpus")
    synthetic: bool = Field(description="whether that holds drawn people only; then answers on real ones mean nothing")
    protocol: str = Field(description="who trained, selected, calibrated and was tested")
    warnings: list[str] = Field(description="what every answer of it says")
    metrics: dict[str, float] = Field(description="scores on the test people")
    licences: dict[str, str] = Field(description="of corpus, weights and face nets")


class Versions(Reply):
    """What computes here."""

    version: str = Field(description="of pkdot")
    ffmpeg: str = Field(description="its version")
    onnxruntime: str = Field(description="its version")
    provider: str = Field(description="onnxruntime's execution provider")


class ModelsReply(Reply):
    """Everything that is loaded."""

    models: list[ModelReply] = Field(description="bundles, then canaries, then shadows")
    versions: Versions = Field(description="of the software")
