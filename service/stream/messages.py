"""What is said on a stream: the client's hello and its media, and the service's messages."""

import json
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.inputs.face.face import Follow
from models.inputs.media.picture import picture_codec
from service.errors import FieldError, InvalidField, MalformedRequest, UnreadableMedia
from service.uploads.fields import MAX_FPS, MIN_HOP_S

SUBPROTOCOL: Final = "pkdot.v1"
MIN_FPS: Final = 0.04
"""A picture in 25 s; where none comes for 30 s, a stream ends."""
MAX_HOP_S: Final = 60.0
JPEG, PCM16LE = 1, 2
HEAD: Final = struct.Struct("<BQ")
"""The kind, and the capture time in microseconds."""
SIGNATURE_BYTES: Final = 12
MAX_TOLD: Final = 8
"""Fields of a hello that are named as wrong."""


class Said(BaseModel):
    """What a client says; nothing is converted, nothing unknown is let through."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class VideoForm(Said):
    """Pictures to come. `fps` is how long the last one lasts; each has its own time."""

    fps: Annotated[float, Field(ge=MIN_FPS, le=MAX_FPS, allow_inf_nan=False)]


class SoundForm(Said):
    """Sound to come, its channels interleaved."""

    sample_rate: Annotated[int, Field(ge=8_000, le=96_000)]
    channels: Annotated[int, Field(ge=1, le=8)]


class Hello(Said):
    """The first message."""

    type: Literal["hello"]
    token: Annotated[str, Field(max_length=1_000)] | None = None
    video: VideoForm | None = None
    audio: SoundForm | None = None
    bundle: Annotated[str, Field(max_length=200)] | None = None
    hop_s: Annotated[float, Field(ge=MIN_HOP_S, le=MAX_HOP_S, allow_inf_nan=False)] | None = None
    face: Follow = "largest"


class Media(NamedTuple):
    """A picture or a stretch of sound, and when it was captured."""

    kind: int
    """JPEG or PCM16LE."""
    captured_us: int
    payload: bytes


def read_hello(text: str) -> Hello:
    """Raises MalformedRequest where it is no hello, InvalidField with all that is wrong with its fields."""
    said = read_object(text)
    if said.get("type") != "hello":
        raise MalformedRequest('the first message must be {"type": "hello", …}')
    try:
        hello = Hello.model_validate(said)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:MAX_TOLD]
        raise InvalidField([FieldError(".".join(map(str, e["loc"]))[:100], told(e)) for e in found]) from None
    if hello.video is None and hello.audio is None:
        raise InvalidField([FieldError("video", "is missing; announce `video`, `audio`, or both")])
    return hello


def told(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings, in words."""
    return "is not known; leave it out" if error["type"] == "extra_forbidden" else str(error["msg"])


def read_object(text: str) -> dict[str, Any]:
    """A JSON object; MalformedRequest where it is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise MalformedRequest("a text message must be a JSON object")
    return said


def read_end(text: str) -> None:
    """The one text that may follow the hello; MalformedRequest for any other."""
    if read_object(text) != {"type": "end"}:
        raise MalformedRequest('after the hello, the only text message is {"type": "end"}')


def read_media(message: bytes, hello: Hello) -> Media:
    """A binary message. Raises MalformedRequest, and UnreadableMedia for a picture that is no JPEG."""
    if len(message) <= HEAD.size:
        raise MalformedRequest(
            f"a binary message is {HEAD.size} bytes of kind and time, and a payload; this one has {len(message)} bytes"
        )
    kind, captured_us = HEAD.unpack_from(message)
    payload = message[HEAD.size :]
    if kind not in (JPEG, PCM16LE):
        raise MalformedRequest(f"a binary message is of kind {JPEG} (JPEG) or {PCM16LE} (PCM16LE); this one is {kind}")
    if (hello.video if kind == JPEG else hello.audio) is None:
        raise MalformedRequest(f"{'a picture' if kind == JPEG else 'sound'} came that the hello does not announce")
    if kind == JPEG and picture_codec(payload[:SIGNATURE_BYTES]) != "mjpeg":
        raise UnreadableMedia("the payload of a message of kind 1 must be a JPEG")
    if kind == PCM16LE and hello.audio is not None and len(payload) % (2 * hello.audio.channels):
        raise MalformedRequest(
            f"sound must be whole samples of {2 * hello.audio.channels} bytes; a message has {len(payload)} bytes"
        )
    return Media(kind, captured_us, payload)


def message(kind: str, content: Mapping[str, Any]) -> str:
    """What the service says, as a line of JSON."""
    return json.dumps({"type": kind, **content}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
