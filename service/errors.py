"""The tree of errors that a caller can meet, and how one becomes an RFC 9457 problem."""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from starlette.responses import Response

from models.inputs.media.media import MediaError

PROBLEM_TYPE: Final = "urn:pkdot:problem:"
"""`type` of a problem is this and its code."""
OIP_PREFIX: Final = "/v2"
GIVEN_UP: Final = "the service is ending, and gave this request up; send it again"
"""The detail where the server ended a request by cancelling it; nothing else in the service does that."""


class FieldError(NamedTuple):
    """What is wrong with one field of the form."""

    field: str
    detail: str


class ServiceError(Exception):
    """The root. `detail` says what was wrong, what is accepted and what to do; never a path, never a trace."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The service failed"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class MalformedRequest(ServiceError):
    status, code, title = 400, "malformed_request", "The request cannot be read"


class Unauthenticated(ServiceError):
    status, code, title = 401, "unauthenticated", "A token is needed"

    def __init__(self, detail: str):
        super().__init__(detail, headers={"www-authenticate": "Bearer"})


class Forbidden(ServiceError):
    status, code, title = 403, "forbidden", "This token does not allow that"


class ForeignOrigin(Forbidden):
    title = "Pages of this origin may not do that"


class NotFound(ServiceError):
    status, code, title = 404, "not_found", "There is nothing at this address"


class MethodNotAllowed(ServiceError):
    status, code, title = 405, "method_not_allowed", "This address does not answer this method"


class BundleRefused(ServiceError):
    status, code, title = 422, "bundle_refused", "A bundle cannot serve"


class MisdirectedRequest(ServiceError):
    status, code, title = 421, "misdirected_request", "The service does not go by that name"


class AccessFilesRefused(ServiceError):
    status, code, title = 422, "access_files_refused", "A file of keys or certificates cannot be used"


class ReloadRunning(ServiceError):
    status, code, title = 409, "reload_running", "The bundles are being read already"


class UploadTooSlow(ServiceError):
    status, code, title = 408, "upload_too_slow", "The upload is too slow"


class TooLarge(ServiceError):
    status, code, title = 413, "too_large", "The request is over a limit"


class UnsupportedMedia(ServiceError):
    status, code, title = 415, "unsupported_media", "This kind of content is not accepted"


class InvalidField(ServiceError):
    status, code, title = 422, "invalid_field", "A field is missing or wrong"

    def __init__(self, errors: Sequence[FieldError]):
        super().__init__("; ".join(f"{e.field}: {e.detail}" for e in errors), errors=errors)


class UnreadableMedia(ServiceError):
    status, code, title = 422, "unreadable_media", "The recording cannot be decoded"


class NoFace(ServiceError):
    status, code, title = 422, "no_face", "No face was found"


class NoUsableModality(ServiceError):
    status, code, title = 422, "no_usable_modality", "Nothing in the recording can be used"


class TooLong(ServiceError):
    status, code, title = 422, "too_long", "The recording is too long"


class TooShort(ServiceError):
    status, code, title = 422, "too_short", "The recording is too short"


class IdempotencyMismatch(ServiceError):
    status, code, title = 422, "idempotency_mismatch", "The key belongs to another request"


class RateLimited(ServiceError):
    status, code, title = 429, "rate_limited", "This key is at its limit"

    def __init__(self, detail: str, retry_after_s: int):
        super().__init__(detail, headers={"retry-after": str(retry_after_s)})


class Overloaded(ServiceError):
    status, code, title = 503, "overloaded", "The service is at its limit"

    def __init__(self, detail: str, retry_after_s: int):
        super().__init__(detail, headers={"retry-after": str(retry_after_s)})


class NotReady(ServiceError):
    status, code, title = 503, "not_ready", "The service is not ready"


class DeadlineExceeded(ServiceError):
    status, code, title = 504, "deadline_exceeded", "There is not enough time"


class SpoolFull(ServiceError):
    status, code, title = 507, "spool_full", "The disk for uploads is full"


class ClientGone(Exception):
    """The client went away; nobody is left to answer."""


MEDIA_ERRORS: Final[Mapping[str, type[ServiceError]]] = {
    "unsupported_media": UnsupportedMedia,
    "unreadable_media": UnreadableMedia,
    "too_large": TooLarge,
    "too_long": TooLong,
}


def from_media(error: MediaError) -> ServiceError:
    """What the decoder found wrong, as an answer."""
    return MEDIA_ERRORS.get(error.code, UnreadableMedia)(str(error))


def error_response(error: ServiceError, path: str, request_id: str) -> Response:
    """`error` in the form that clients of `path` read: the Open Inference Protocol has one of its own."""
    if path == OIP_PREFIX or path.startswith(OIP_PREFIX + "/"):
        content = json.dumps({"error": error.detail}, ensure_ascii=False)
        return Response(content, error.status, error.headers, media_type="application/json")
    return problem_response(error, request_id)


def problem_of(error: ServiceError, request_id: str) -> dict[str, object]:
    """`error` as the object that RFC 9457 describes."""
    problem: dict[str, object] = {
        "type": PROBLEM_TYPE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": f"urn:pkdot:request:{request_id}",
        "code": error.code,
    }
    if error.errors:
        problem["errors"] = [{"field": e.field, "detail": e.detail} for e in error.errors]
    return problem


def problem_response(error: ServiceError, request_id: str) -> Response:
    """`error` as application/problem+json."""
    content = json.dumps(problem_of(error, request_id), ensure_ascii=False)
    return Response(content, error.status, error.headers, media_type="application/problem+json")
