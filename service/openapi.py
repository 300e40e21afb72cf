"""What the routes' signatures cannot say in /openapi.json: multipart forms, request headers and problems."""

from typing import Any, Final, Literal

from service import errors
from service.errors import ServiceError
from service.fields import MAX_FPS, MIN_HOP_S

PROBLEM_REF: Final = {"$ref": "#/components/schemas/Problem"}
FILE: Final = {"type": "string", "format": "binary"}
Route = Literal["predict", "models"]

ERRORS: Final[dict[Route, tuple[type[ServiceError], ...]]] = {
    "predict": (
        errors.MalformedRequest,
        errors.UploadTooSlow,
        errors.TooLarge,
        errors.UnsupportedMedia,
        errors.InvalidField,
        errors.UnreadableMedia,
        errors.NoFace,
        errors.NoUsableModality,
        errors.TooLong,
        errors.TooShort,
        ServiceError,
        errors.Overloaded,
        errors.NotReady,
        errors.DeadlineExceeded,
        errors.SpoolFull,
    ),
    "models": (errors.NotReady,),
}

COMMON_FIELDS: Final[dict[str, Any]] = {
    "start_s": {
        "type": "number",
        "minimum": 0,
        "default": 0,
        "description": "Begin of the part to answer, in s.",
    },
    "end_s": {"type": "number", "exclusiveMinimum": 0, "description": "End of that part; the recording's if left out."},
    "hop_s": {
        "type": "number",
        "minimum": MIN_HOP_S,
        "description": "Distance of the windows in seconds; the bundle's own if left out.",
    },
    "bundle": {"type": "string", "description": "Name of the bundle to use, where several are loaded for the task."},
    "face": {"type": "string", "enum": ["largest"], "default": "largest", "description": "Which face to follow."},
    "detail": {
        "type": "string",
        "enum": ["frames"],
        "description": "Adds `frames` to each window: time, box and score of the face in each sampled frame.",
    },
}
VIDEO: Final = FILE | {"description": "One video file (MP4, MOV, WebM, Matroska, AVI, MPEG …)."}
PAIN_FIELDS: Final[dict[str, Any]] = {
    "video": VIDEO,
    "frames": {
        "type": "array",
        "items": FILE,
        "description": "Pictures (JPEG, PNG, WebP) in order, one part each, instead of `video`. One is enough.",
    },
    "fps": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": MAX_FPS,
        "default": 25,
        "description": "Pictures a second; only with `frames`.",
    },
    **COMMON_FIELDS,
}
AFFECT_FIELDS: Final[dict[str, Any]] = {
    "video": VIDEO | {"description": "One video file; its own sound track is used when there is one."},
    "audio": FILE | {"description": "One sound file; replaces the video's own sound."},
    **COMMON_FIELDS,
}
HEADERS: Final[list[dict[str, Any]]] = [
    {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "Echoed in the answer; replaced where it is not of this form.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    {
        "name": "X-Request-Timeout",
        "in": "header",
        "required": False,
        "description": "Seconds for the whole request, upload included; the server has a cap.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "W3C trace context; its trace id is written to the log.",
        "schema": {"type": "string"},
    },
]


def form(properties: dict[str, Any], files: tuple[str, ...], *, choose: Literal["anyOf", "oneOf"]) -> dict[str, Any]:
    """The extra part of an operation that takes a multipart form with at least, or with just, one of these files."""
    schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        choose: [{"required": [name]} for name in files],
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "parameters": HEADERS,
    }


PREDICT_PAIN: Final = form(PAIN_FIELDS, ("video", "frames"), choose="oneOf")
PREDICT_AFFECT: Final = form(AFFECT_FIELDS, ("video", "audio"), choose="anyOf")


def problems(route: Route) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, by status; each is a problem whose `code` is one of those named."""
    codes: dict[int, list[str]] = {}
    for error in ERRORS[route]:
        codes.setdefault(error.status, []).append(error.code)
    return {
        status: {
            "description": "Problem with `code` " + " or ".join(f"`{name}`" for name in names),
            "content": {"application/problem+json": {"schema": PROBLEM_REF}},
        }
        for status, names in sorted(codes.items())
    }
