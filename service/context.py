"""What is known of one request while it is answered: for its headers, its log line and the metrics."""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from models.spec import Task

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
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
    seconds: dict[str, float] = field(default_factory=dict)
    largest_batch: int = 0

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def server_timing(self) -> str:
        """The stages that were reached, in milliseconds, and the largest batch that a window was part of."""
        parts = [f"{stage};dur={1000 * self.seconds[stage]:.3f}" for stage in STAGES if stage in self.seconds]
        if self.largest_batch:
            parts[-1] += f';desc="batch {self.largest_batch}"'
        return ", ".join(parts)


def new_context(headers: Iterable[tuple[bytes, bytes]], now_s: float) -> RequestContext:
    """The caller's request id where it is a proper one, else a new one; the trace it belongs to, if any."""
    named = dict(headers)
    given, trace = named.get(b"x-request-id", b""), TRACEPARENT.fullmatch(named.get(b"traceparent", b""))
    request_id = given.decode("ascii") if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    return RequestContext(request_id, trace.group(1).decode("ascii") if trace else None, now_s)
