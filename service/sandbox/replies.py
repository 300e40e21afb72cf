"""What a child may answer. It may be in a stranger's hands by then, so each field has its type and its bounds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.inputs.media.container import MediaErrorCode

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Stretch = Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)]


class Reply(BaseModel):
    """The root: nothing is converted, nothing unknown is let through."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ready(Reply):
    """The layers hold; it waits for orders."""

    kind: Literal["ready"]
    layers: list[str]


class Facts(Reply):
    """The fields of MediaInfo."""

    kind: Literal["facts"]
    duration_s: Positive
    fps: Positive | None
    width: Count | None
    height: Count | None
    has_video: bool
    has_audio: bool


class FrameLies(Reply):
    """A picture lies in the next slot: uint8 (height, width, 3). It is shown at `times` of the asked-for times."""

    kind: Literal["frame"]
    time_s: Finite
    height: Count
    width: Count
    stretch: tuple[Stretch, Stretch] = (1.0, 1.0)
    times: Count


class SamplesLie(Reply):
    """The next float32 samples lie in the next slot."""

    kind: Literal["samples"]
    count: Count


class Done(Reply):
    """All that was asked for has come."""

    kind: Literal["done"]


class Refused(Reply):
    """A MediaError, with words for the caller."""

    kind: Literal["refused"]
    code: MediaErrorCode
    message: Annotated[str, Field(max_length=500)]


class Failed(Reply):
    """Memory ran out, or the code raised something else than it should have."""

    kind: Literal["failed"]
    memory: bool
    error: Annotated[str, Field(pattern=r"^[A-Za-z]{1,60}$")]
    line: Annotated[int, Field(ge=0, lt=100_000)]


class Tried(Reply):
    """By which error each attempt was stopped; "" by none."""

    kind: Literal["tried"]
    stopped_by: dict[str, str]


AnyReply = Ready | Facts | FrameLies | SamplesLie | Done | Refused | Failed | Tried
REPLY: TypeAdapter[AnyReply] = TypeAdapter(Annotated[AnyReply, Field(discriminator="kind")])
