"""What is known of one request while it is answered: for its headers, its log line and the metrics."""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from models.spec import Task

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT: Final = re.compile(
    rb"(?:00-{ids}|(?!00|ff)[0-9a-f]{2}-{ids}(?:-.*)?)".replace(
        b"{ids}", rb"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    )
)
"""W3C Trace Context, section 3.2: version 00 has four parts, later versions may add some."""
STAGES: Final = ("upload", "decode", "face", "queue", "inference")


@dataclass
class RequestContext:
    """Filled in on the way; lives in `scope["state"]["context"]`."""

    request_id: str
    trace_id: str | None
    started_s: float
    """On the monotonic clock, when the headers had come."""
    task: Task | None = None
    """Set by the routes that predict; others are not in the metrics."""
    code: str = "ok"
    stage: str = "upload"
    """Empty where it was refused at its headers, and so never began."""
    predicts: bool = False
    """Whether a prediction is asked for: the address tells it before the task is known."""
    seconds: dict[str, float] = field(default_factory=dict)
    largest_batch: int = 0
    own_s: float | None = None
    """What all of it is predicted to take on one core; None where nothing is known."""
    traceparent: str | None = None
    """The caller's own, where it is a proper one; `trace_id` is a part of it."""
    tracestate: str = ""
    caller: str = ""
    """Whose request it is; the same for all where no keys are asked for. What one caller sent helps no other."""

    key_name: str = ""
    """The name of its API key; empty where no keys are asked for."""
    client: str = ""
    """The address it came from, as far as trusted proxies tell."""

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def server_timing(self) -> str:
        """The stages that were reached, in milliseconds, and the largest batch that a window was part of.

        Never empty: a request that was refused at its headers uploaded for no time.
        """
        if not self.seconds:
            return f"{STAGES[0]};dur=0.000"
        parts = [f"{stage};dur={1000 * self.seconds[stage]:.3f}" for stage in STAGES if stage in self.seconds]
        if self.largest_batch:
            parts[-1] += f';desc="batch {self.largest_batch}"'
        return ", ".join(parts)


def new_context(headers: Collection[tuple[bytes, bytes]], now_s: float) -> RequestContext:
    """The caller's request id where it is one proper one, else a new one; the trace it belongs to, if any."""
    given, trace = combined(headers, b"x-request-id"), TRACEPARENT.fullmatch(combined(headers, b"traceparent"))
    request_id = given.decode("ascii") if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    context = RequestContext(request_id, None, now_s)
    if trace:
        context.traceparent = trace.group().decode("latin-1")
        context.trace_id = context.traceparent.split("-")[1]
        context.tracestate = combined(headers, b"tracestate").decode("latin-1")
    return context


def combined(headers: Collection[tuple[bytes, bytes]], name: bytes) -> bytes:
    """All headers of a name as one list (RFC 9110, section 5.3), which is no proper value where only one may come."""
    return b",".join(value for key, value in headers if key == name)


class Finished(NamedTuple):
    """A request whose answer has gone, or whose client has: what its log line and its span tell of it."""

    context: RequestContext
    method: str
    path: str
    """As the client wrote it, decoded: may hold anything."""
    route: str
    """The pattern of the address; empty where there is nothing at it."""
    status: int
    took_s: float
    request_bytes: int
    response_bytes: int

    @property
    def quiet(self) -> bool:
        """Whether it is one of the probes and scrapes that come every few seconds."""
        return self.context.task is None and (self.status < 400 or "/health/" in self.route)
