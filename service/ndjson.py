"""An answer as JSON lines: each window as soon as it is computed.

The status is held back until the first answered window, HELD_S at most, so that what fails before has its own status.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import Send

from models.inputs.prepare import Preparation
from service import schemas
from service.answers import answer_window, bundle_reply, media_reply, timing, warnings, window_reply
from service.context import RequestContext
from service.errors import ClientGone, ServiceError, problem_of
from service.offload import ended
from service.pipeline import Computed, Question
from service.tally import TIME_DIGITS, Tally
from service.telemetry import Telemetry

MEDIA_TYPE: Final = "application/x-ndjson"
HELD_S: Final = 10.0
PROGRESS_S: Final = 4.5
"""Between two lines that tell the progress; at least every 5 s are promised."""
UNREAD_S: Final = 30.0
"""A client that takes nothing for so long is given up: its recording keeps a decoder from others."""
FAREWELL_S: Final = 1.0
"""How long the last line of a failure may take to be sent."""


def wants_lines(headers: Headers) -> bool:
    """Whether the client names this form among those that it accepts."""
    for accepted in headers.get("accept", "").split(","):
        kind, *parameters = (part.strip().lower() for part in accepted.split(";"))
        if kind == MEDIA_TYPE:
            return not any(p.startswith("q=") and not p.removeprefix("q=").strip("0.") for p in parameters)
    return False


class Lines:
    """Writes the lines of one answer, in order, and waits until each has left."""

    def __init__(self, question: Question, context: RequestContext, telemetry: Telemetry, send: Send) -> None:
        self.question, self.context, self.telemetry, self.send = question, context, telemetry, send
        self.tally = Tally(question.bundle.bundle.manifest)
        self.preparation: Preparation | None = None
        self.held: list[bytes] = []
        self.begun = self.introduced = False
        """Whether the status, and the first line, have been sent."""
        self.sending = asyncio.Lock()
        self.next_sign_s = time.monotonic() + HELD_S
        """When to give the next sign of life."""

    def opened(self, preparation: Preparation) -> None:
        self.preparation = preparation

    async def add(self, computed: Sequence[Computed]) -> None:
        assert self.preparation is not None  # opened before the first window
        answered = [answer_window(self.tally.manifest, one) for one in computed]
        self.telemetry.answered(self.question.bundle.bundle, answered)
        exclude = None if self.question.frame_detail else {"frames"}
        for one in answered:
            self.tally.add(one)
            window = window_reply(self.question, self.preparation.media, one)
            self.held.append(line("window", window.model_dump(mode="json", by_alias=True, exclude=exclude)))
        if self.begun or self.tally.answered:
            await self.flush()

    async def write(self, work: Coroutine[Any, Any, Preparation]) -> None:
        """All lines, while `work` adds the windows. Raises what `work` raises; ClientGone where nobody reads."""
        working = asyncio.create_task(work)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=max(0.0, self.next_sign_s - time.monotonic()))
                if not working.done() and time.monotonic() >= self.next_sign_s:
                    await self.give_sign()
            preparation = await working
        finally:
            working.cancel()
            await ended(working)
        self.held.append(self.summary(preparation))
        await self.flush(last=True)

    async def give_sign(self) -> None:
        """The status, if it was held back; later, how far it has come."""
        self.next_sign_s = time.monotonic() + PROGRESS_S
        if self.begun and self.preparation is not None:
            done_s, total_s = self.preparation.reached_s, self.preparation.end_s
            self.held.append(
                line("progress", {"done_s": round(done_s, TIME_DIGITS), "total_s": round(total_s, TIME_DIGITS)})
            )
        await self.flush()

    async def fail(self, error: ServiceError) -> None:
        """The last line of a stream that cannot be completed."""
        self.context.code = error.code
        problem = problem_of(error, self.context.request_id)
        self.held.append(line("error", {"problem": problem}))
        await self.flush(last=True, within_s=FAREWELL_S)

    async def flush(self, *, last: bool = False, within_s: float = UNREAD_S) -> None:
        """Send what is held. Raises ClientGone where it is not taken."""
        try:
            async with asyncio.timeout(within_s), self.sending:
                if not self.begun:
                    self.begun = True
                    self.next_sign_s = time.monotonic() + PROGRESS_S
                    headers = [(b"content-type", MEDIA_TYPE.encode())]
                    await self.send({"type": "http.response.start", "status": 200, "headers": headers})
                if not self.introduced and self.preparation is not None:
                    self.introduced = True
                    self.held.insert(0, self.start(self.preparation))
                body, self.held = b"".join(self.held), []
                await self.send({"type": "http.response.body", "body": body, "more_body": not last})
        except TimeoutError:
            raise ClientGone from None

    def start(self, preparation: Preparation) -> bytes:
        head = {
            "api_version": schemas.API_VERSION,
            "task": self.question.task,
            "request_id": self.context.request_id,
            "bundle": bundle_reply(self.question).model_dump(mode="json"),
            "media": media_reply(preparation.media).model_dump(mode="json"),
        }
        return line("start", head)

    def summary(self, preparation: Preparation) -> bytes:
        tally, total_s = self.tally, time.monotonic() - self.context.started_s
        foot = {
            "summary": tally.summary().model_dump(mode="json"),
            "faces": [face.model_dump(mode="json") for face in tally.face_replies()],
            "modalities": tally.modalities().model_dump(mode="json"),
            "warnings": warnings(self.question, preparation.silent_track, tally),
            "timing_ms": timing(self.context, total_s).model_dump(mode="json"),
        }
        return line("summary", foot)


def line(kind: str, content: dict[str, Any]) -> bytes:
    return (
        json.dumps({"type": kind} | content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        + b"\n"
    )
