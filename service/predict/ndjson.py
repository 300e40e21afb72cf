"""An answer as JSON lines: each window as soon as it is computed.

The status is held back until the first answered window, HELD_S at most, so that what fails before has its own status.
"""

import asyncio
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from starlette.datastructures import Headers
from starlette.types import Message, Send

from models.inputs.prepare import Preparation
from service import schemas
from service.context import RequestContext
from service.errors import ClientGone, ServiceError, problem_of
from service.http.closing import UNREAD_S
from service.predict.answers import bundle_reply, media_reply, timing, warnings
from service.predict.pipeline import Computed, Question
from service.predict.tally import TIME_DIGITS
from service.predict.whole import Whole
from service.telemetry.metrics import Telemetry
from service.threads.offload import ended

T = TypeVar("T")
MEDIA_TYPE: Final = "application/x-ndjson"
HELD_S: Final = 10.0
PROGRESS_S: Final = 4.5
"""Between two lines that tell the progress; at least every 5 s are promised."""
STILL_HERE: Final = b" "
"""In their place before the first line, which no other may precede: JSON may begin with spaces, and what lies between
sees that the connection is alive."""
FAREWELL_S: Final = 1.0
"""How long the last line of a failure may take to be sent, with what is held before it."""
PIECE_BYTES: Final = 65_536
"""Sent at a time, or a line that is longer: so much must be taken within UNREAD_S."""
WEIGHT: Final = re.compile(r"q=([0-9]+\.?[0-9]*)")
START_FIELDS: Final = ("api_version", "task", "request_id", "bundle", "media")
SUMMARY_FIELDS: Final = ("summary", "faces", "modalities", "confidence_level", "warnings", "timing_ms")


def wants_lines(headers: Headers) -> bool:
    """Whether the client names this form, and likes no other better (RFC 9110, section 12.5.1)."""
    weights: dict[str, float] = {}
    for accepted in ",".join(headers.getlist("accept")).split(","):
        kind, *parameters = (part.strip().lower() for part in accepted.split(";"))
        weights[kind] = next((float(found[1]) for p in parameters if (found := WEIGHT.fullmatch(p))), 1.0)
    whole = next((weights[kind] for kind in ("application/json", "application/*", "*/*") if kind in weights), 0.0)
    lines = weights.get(MEDIA_TYPE, 0.0)
    return lines > 0 and lines >= whole


class Lines:
    """Writes the lines of one answer, in order.

    Without `keeps` a window is forgotten as soon as it has left, and the decoding waits until it has. Else `whole`
    keeps the windows, for others that wait for the same, and nothing waits for this one's reader.
    """

    def __init__(
        self, question: Question, context: RequestContext, telemetry: Telemetry, send: Send, *, keeps: bool
    ) -> None:
        self.question, self.context, self.send, self.keeps = question, context, send, keeps
        self.whole = Whole(question, context, telemetry)
        self.preparation: Preparation | None = None
        self.held: deque[bytes] = deque()
        self.begun = self.introduced = False
        """Whether the status, and the first line, have been sent."""
        self.foot = b""
        """The line that tells of success, once all windows are held before it."""
        self.last = b""
        self.last_within_s = UNREAD_S
        """The last piece, and how soon it must be taken."""
        self.sending = asyncio.Lock()
        self.news = asyncio.Event()
        self.next_sign_s = time.monotonic() + HELD_S
        """When to give the next sign of life."""

    def opened(self, preparation: Preparation) -> None:
        self.preparation = preparation
        self.whole.opened(preparation)

    async def add(self, computed: Sequence[Computed]) -> None:
        replies = self.whole.replies(computed)
        if self.keeps:
            self.whole.windows += replies
        exclude = None if self.question.frame_detail else {"frames"}
        for reply in replies:
            self.held.append(line("window", reply.model_dump(mode="json", by_alias=True, exclude=exclude)))
        if not (self.begun or self.whole.tally.answered):
            return
        if self.keeps:
            self.news.set()
        else:
            await self.flush()

    async def write(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, while the windows that it adds leave, and signs of life.

        Raises what `work` raises; ClientGone where nobody reads, with `keeps` only once `work` has ended.
        """
        working = asyncio.create_task(work)
        working.add_done_callback(lambda _: self.news.set())
        try:
            await self.send_news(working)
            return await working
        except ClientGone:
            if self.keeps:
                await working  # others may wait for it; where nobody does, it ends soon
            raise
        finally:
            working.cancel()
            await ended(working)

    async def send_news(self, working: "asyncio.Task[Any]") -> None:
        while not working.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.next_sign_s - time.monotonic()):
                    await self.news.wait()
            self.news.clear()
            if working.done():
                return
            if time.monotonic() >= self.next_sign_s:
                await self.give_sign()
            elif self.held:
                await self.flush()

    async def end(self, preparation: Preparation) -> None:
        """The last line, behind all windows; it leaves with `close`."""
        self.foot = self.summary(preparation)
        self.held.append(self.foot)
        await self.flush(last=True)

    async def retell(self, lines: Sequence[bytes]) -> None:
        """All lines of an answer that others' work has given, `retold`; the last leave with `close`."""
        self.held += lines
        self.foot = lines[-1]
        await self.flush(last=True)

    async def give_sign(self) -> None:
        """The status, if it was held back; later, how far it has come."""
        self.next_sign_s = time.monotonic() + PROGRESS_S
        if self.preparation is None:
            self.held.append(STILL_HERE)
        elif self.begun:
            done_s, total_s = self.preparation.reached_s, self.preparation.end_s
            self.held.append(
                line("progress", {"done_s": round(done_s, TIME_DIGITS), "total_s": round(total_s, TIME_DIGITS)})
            )
        await self.flush()

    async def fail(self, error: ServiceError) -> None:
        """The last line of a stream that cannot be completed, in the place of any other; it leaves with `close`."""
        self.context.code = error.code
        if self.held and self.held[-1] is self.foot:
            self.held.pop()
        problem = problem_of(error, self.context.request_id)
        self.held.append(line("error", {"problem": problem}))
        self.last_within_s = FAREWELL_S
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.flush(last=True)
        except TimeoutError:
            raise ClientGone from None

    async def close(self) -> None:
        """Send the last piece. Raises ClientGone where it is not taken."""
        await self.push({"type": "http.response.body", "body": self.last, "more_body": False}, self.last_within_s)

    async def flush(self, *, last: bool = False) -> None:
        """Send what is held, but for the `last` piece. Raises ClientGone where it is not taken."""
        async with self.sending:
            if not self.begun:
                headers = [(b"content-type", MEDIA_TYPE.encode())]
                await self.push({"type": "http.response.start", "status": 200, "headers": headers}, UNREAD_S)
                self.begun = True
                self.next_sign_s = time.monotonic() + PROGRESS_S
                self.news.set()  # who waits for the time of the next sign must wait less
            if not self.introduced and self.preparation is not None:
                self.introduced = True
                self.held.appendleft(self.start(self.preparation))
            more = True
            while more:
                body, more = self.take(), bool(self.held)
                if last and not more:
                    self.last = body
                else:
                    await self.push_piece(body)

    def take(self) -> bytes:
        """What comes next of what is held: whole lines, so that one that tells of a failure may always follow."""
        taken: list[bytes] = []
        size = 0
        while self.held and (not taken or size + len(self.held[0]) <= PIECE_BYTES):
            taken.append(self.held.popleft())
            size += len(taken[-1])
        return b"".join(taken)

    async def push_piece(self, body: bytes) -> None:
        try:
            await self.push({"type": "http.response.body", "body": body, "more_body": True}, UNREAD_S)
        except asyncio.CancelledError:
            self.held.appendleft(body)  # the server writes all of it or, where it waits for the client, nothing
            raise

    async def push(self, message: Message, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self.send(message)
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
        tally, total_s = self.whole.tally, time.monotonic() - self.context.started_s
        foot = {
            "summary": tally.summary().model_dump(mode="json"),
            "faces": [face.model_dump(mode="json") for face in tally.face_replies()],
            "modalities": tally.modalities().model_dump(mode="json"),
            "confidence_level": tally.confidence_level(),
            "warnings": warnings(self.question, preparation.silent_track, tally),
            "timing_ms": timing(self.context, total_s).model_dump(mode="json"),
        }
        return line("summary", foot)


def retold(document: bytes) -> list[bytes]:
    """The lines of a whole answer."""
    answer: dict[str, Any] = json.loads(document)
    windows = (line("window", window) for window in answer["windows"])
    start, summary = ({name: answer[name] for name in names} for names in (START_FIELDS, SUMMARY_FIELDS))
    return [line("start", start), *windows, line("summary", summary)]


def line(kind: str, content: dict[str, Any]) -> bytes:
    return (
        json.dumps({"type": kind} | content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        + b"\n"
    )
