"""What the routes' signatures cannot say in /openapi.json: multipart forms, request headers and problems."""

from typing import Any, Final, Literal

from service import errors
from service.access.access import is_open
from service.errors import ServiceError
from service.uploads.fields import MAX_FPS, MIN_HOP_S

PROBLEM_REF: Final = {"$ref": "#/components/schemas/Problem"}
FILE: Final = {"type": "string", "format": "binary"}
Route = Literal["predict", "models", "admin"]

ERRORS: Final[dict[Route, tuple[type[ServiceError], ...]]] = {
    "predict": (
        errors.MalformedRequest,
        errors.Unauthenticated,
        errors.UploadTooSlow,
        errors.TooLarge,
        errors.UnsupportedMedia,
        errors.InvalidField,
        errors.UnreadableMedia,
        errors.NoFace,
        errors.NoUsableModality,
        errors.TooLong,
        errors.TooShort,
        errors.IdempotencyMismatch,
        errors.MisdirectedRequest,
        errors.RateLimited,
        ServiceError,
        errors.Overloaded,
        errors.NotReady,
        errors.DeadlineExceeded,
        errors.SpoolFull,
    ),
    "models": (errors.Unauthenticated, errors.MisdirectedRequest, errors.RateLimited, errors.NotReady),
    "admin": (
        errors.Unauthenticated,
        errors.Forbidden,
        errors.ReloadRunning,
        errors.MisdirectedRequest,
        errors.AccessFilesRefused,
        errors.BundleRefused,
        errors.NotReady,
    ),
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
    "face": {
        "type": "string",
        "enum": ["largest", "all"],
        "default": "largest",
        "description": "Which face to follow: the largest, or all of them, with one window for each.",
    },
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
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Names a request for its repeats: one that comes while it runs joins it, "
        "a later one gets the kept answer. The same key with another payload is refused.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
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


def lines(task: Literal["pain", "valence-arousal"]) -> dict[int | str, dict[str, Any]]:
    """The other form of a prediction's answer: a stream of objects, one a line."""
    word = "Pain" if task == "pain" else "Affect"
    text, number = {"type": "string"}, {"type": "number"}
    kinds = [
        line("start", api_version=text, task=text, request_id=text, bundle=ref("BundleReply"), media=ref("MediaReply")),
        {"allOf": [line("window"), ref(f"{word}Window")]},
        line("progress", done_s=number, total_s=number),
        line(
            "summary",
            summary=ref(f"{word}Summary"),
            faces={"type": "array", "items": ref("FaceReply")},
            modalities=ref("Modalities"),
            confidence_level=number,
            warnings={"type": "array", "items": text},
            timing_ms=ref("Timing"),
        ),
        line("error", problem=PROBLEM_REF),
    ]
    description = (
        "The whole answer; or, where application/x-ndjson is accepted, one object a line: `start`, each `window` as it "
        "is computed, `progress` at least every 5 s, and as the last line `summary` or `error`. A stream that ends "
        "with neither was cut, and is a failure."
    )
    return {200: {"description": description, "content": {"application/x-ndjson": {"schema": {"oneOf": kinds}}}}}


def line(kind: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of one kind of line, with everything in it required."""
    return {
        "type": "object",
        "properties": {"type": {"const": kind}} | properties,
        "required": ["type", *properties],
    }


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


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


def add_security(document: dict[str, Any], *, keys: bool) -> None:
    """Name the bearer token that an operation needs; where `keys` are not asked for, only /admin has one."""
    needy = [path for path in document["paths"] if path.startswith("/admin/") or (keys and not is_open(path))]
    for operation in [operation for path in needy for operation in document["paths"][path].values()]:
        operation["security"] = [{"bearer": []}]
    if needy:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
