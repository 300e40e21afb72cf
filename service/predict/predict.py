"""POST /predict/…: from headers to answer, refusing as early as anything is known to be wrong."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.inputs.prepare import Recording
from models.spec import Task
from service.bundles.shelf import BundleShelf, LoadedBundle, UnknownBundle
from service.context import RequestContext
from service.errors import (
    GIVEN_UP,
    ClientGone,
    DeadlineExceeded,
    FieldError,
    InvalidField,
    MalformedRequest,
    NotReady,
    ServiceError,
)
from service.http.sent_once import sent_once
from service.lifecycle import Lifecycle, Resources
from service.predict.ndjson import Lines, retold, wants_lines
from service.predict.pipeline import Question, Sink
from service.predict.whole import Whole
from service.predictions import PREDICT
from service.settings import Settings
from service.sharing.idempotency import HEADER, idempotency_key
from service.sharing.sharing import Asked, Sharing, disconnected, payload_digest
from service.telemetry.metrics import Telemetry
from service.threads.offload import ended, offload
from service.uploads.admission import Place
from service.uploads.fields import FILES, TEXTS, Fields, decimal, read_fields
from service.uploads.form import Form, boundary_of, read_form
from service.uploads.upload import BodyLimits, Pictures, Spool, read_body, too_large

T = TypeVar("T")
DIGITS: Final = re.compile(r"[0-9]{1,20}")
CLOCK_S: Final = 0.05
"""Two clocks that read a deadline may differ by so much."""
WATCH_AFTER_S: Final = 0.1
"""To watch for a client's leaving takes a task; most of what is quick need not pay for it."""


class Predictor:
    """Answers the predictions of one app."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, telemetry: Telemetry) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.telemetry = telemetry
        self.sharing = Sharing(settings, telemetry)

    async def answer(self, task: Task, request: Request) -> Response:
        """The whole way of one request. Raises ServiceError and ClientGone."""
        context: RequestContext = request.state.context
        context.task = task
        self.telemetry.request_began(context)
        timeout_s = self.timeout_s(request.headers)
        deadline_s = context.started_s + timeout_s
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                return await self.answer_in_time(task, request, deadline_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the request was not done within {timeout_s:g} s; ask for more with X-Request-Timeout "
                f"(at most {self.settings.max_request_timeout_s:g}), or for a shorter part"
            ) from None

    def timeout_s(self, headers: Headers) -> float:
        """X-Request-Timeout, capped; the default where there is none. InvalidField where it is wrong, or doubled."""
        given = sent_once(headers, "X-Request-Timeout")
        asked_s = self.settings.request_timeout_s if given is None else decimal(given)
        if asked_s is None or asked_s <= 0:
            raise InvalidField([FieldError("X-Request-Timeout", f"must be seconds over 0; got {given!r:.34}")])
        return min(asked_s, self.settings.max_request_timeout_s)

    def expects(self, scope: Scope, caller: str) -> bool:
        """Whether a request of `caller` repeats one whose run goes on without a client: it adds no work."""
        task = PREDICT.get(scope["path"])
        return task is not None and self.sharing.expects(caller, task, Headers(scope=scope).get(HEADER))

    async def answer_in_time(self, task: Task, request: Request, deadline_s: float) -> Response:
        context: RequestContext = request.state.context
        resources = self.lifecycle.require(context.request_id)
        boundary = boundary_of(sent_once(request.headers, "Content-Type") or "")
        key = idempotency_key(request.headers)
        declared_bytes = self.declared_bytes(request.headers)
        kind = default_bundle(resources.shelf, task).recordings
        resources.refuse_recording(kind, deadline_s - time.monotonic(), declared_bytes)
        expected = self.expects(request.scope, context.caller)
        with resources.admission.place(kind, declared_bytes, expected=expected) as place:
            spool = Spool(self.settings.spool_dir, self.settings.spool_memory_bytes, resources.threads)
            try:
                form = await self.read_upload(task, request, boundary, spool, place)
                question = ask(task, read_fields(form, task), spool, resources.shelf)
                context.own_s = place.arrived()
                asked = Asked(task, payload_digest(form, await spool.digest()), question.bundle.identity, key)
                response = await self.reply(question, asked, request, resources, deadline_s)
                if (seconds := context.seconds).keys() > {"upload"}:  # no other one did its work
                    place.answered(seconds)
                return response
            finally:
                spool.close()

    def declared_bytes(self, headers: Headers) -> int | None:
        """Content-Length; 0 without a body, None where its length is not told. TooLarge where it is over the limit."""
        if "transfer-encoding" in headers:
            return None
        given = headers.get("content-length", "0")
        if not DIGITS.fullmatch(given):
            raise MalformedRequest("Content-Length is not a number of bytes")
        if int(given) > self.settings.max_upload_bytes:
            raise too_large(self.settings.max_upload_bytes)
        return int(given)

    async def read_upload(self, task: Task, request: Request, boundary: bytes, spool: Spool, place: Place) -> Form:
        context: RequestContext = request.state.context
        settings = self.settings
        limits = BodyLimits(settings.max_upload_bytes, settings.min_upload_bytes_per_s, settings.slow_upload_after_s)
        chunks = covered(read_body(request.receive, limits), place)
        try:
            return await read_form(
                chunks, boundary, spool, files=FILES[task], texts=TEXTS[task], max_files=settings.max_frames
            )
        finally:
            context.add("upload", time.monotonic() - context.started_s)

    async def reply(
        self, question: Question, asked: Asked, request: Request, resources: Resources, deadline_s: float
    ) -> Response:
        """The answer in the form that the client wants; it may be that of an equal request."""
        context: RequestContext = request.state.context
        if wants_lines(request.headers):
            return await self.stream(question, asked, request, resources, deadline_s)
        whole = Whole(question, context, self.telemetry)
        run = partial(self.compute_whole, whole, whole, resources, deadline_s)
        return await self.sharing.answer(asked, context, run, partial(disconnected, request.receive))

    async def compute_whole(self, whole: Whole, sink: Sink, resources: Resources, deadline_s: float) -> Response:
        """The answer that `whole` holds once all has gone to `sink`, which keeps the windows there."""
        preparation = await resources.pipeline.compute(whole.question, deadline_s, whole.context, sink)
        render = partial(whole.render, preparation)
        return Response(await offload(resources.threads, render), media_type="application/json")

    async def stream(
        self, question: Question, asked: Asked, request: Request, resources: Resources, deadline_s: float
    ) -> Response:
        """The answer as JSON lines, sent but for its end when this returns.

        Raises as `reply` does until the status is out.
        """
        context: RequestContext = request.state.context
        lines = Lines(question, context, self.telemetry, request._send, keeps=asked.key is not None)
        try:
            if asked.key is None:
                await while_connected(self.stream_alone(lines, resources, deadline_s), request.receive)
            else:
                await self.stream_shared(lines, asked, request, resources, deadline_s)
        except ClientGone:
            raise
        except ServiceError as error:
            if not lines.begun:
                raise
            await lines.fail(error)
        except asyncio.CancelledError:
            if not lines.begun:
                raise
            # what ended it is said here, since no other status can follow the one that is out
            in_time = time.monotonic() < deadline_s - CLOCK_S
            too_late = DeadlineExceeded("the request was not done in its time; what came before stands")
            await lines.fail(NotReady(GIVEN_UP) if in_time else too_late)
        except Exception:
            if lines.begun:
                await lines.fail(ServiceError("this is a bug in the service; report it with its X-Request-ID"))
            raise
        return Ending(lines)

    async def stream_alone(self, lines: Lines, resources: Resources, deadline_s: float) -> None:
        """The lines of a run that nobody shares."""
        work = resources.pipeline.compute(lines.question, deadline_s, lines.context, lines)
        await lines.end(await lines.write(work))

    async def stream_shared(
        self, lines: Lines, asked: Asked, request: Request, resources: Resources, deadline_s: float
    ) -> None:
        """The lines of a run that repeats may join, of the one that this request joins, or of the kept answer."""
        run = partial(self.compute_whole, lines.whole, lines, resources, deadline_s)
        left = partial(disconnected, request.receive)
        response = await lines.write(self.sharing.answer(asked, lines.context, run, left))
        if lines.preparation is not None:
            await lines.end(lines.preparation)
        else:
            await lines.retell(await offload(resources.threads, partial(retold, bytes(response.body))))


class Ending(Response):
    """The last piece of an answer in lines: who has read it may ask again, so the request's place is free before."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as Response's
        await self.lines.close()


def default_bundle(shelf: BundleShelf, task: Task) -> LoadedBundle:
    """The bundle that answers where none is named; InvalidField where no bundle does."""
    try:
        return shelf.find(task)
    except UnknownBundle as error:
        raise InvalidField([FieldError("bundle", str(error))]) from None


def ask(task: Task, fields: Fields, spool: Spool, shelf: BundleShelf) -> Question:
    """The question that a form asks; InvalidField with everything that is wrong with it."""
    errors = list(fields.errors)
    try:
        bundle = shelf.find(task, fields.bundle)
    except UnknownBundle as error:
        errors.append(FieldError("bundle", str(error)))
    if errors:
        raise InvalidField(errors)
    recording = Recording(
        video=spool.source(fields.video) if fields.video else None,
        pictures=Pictures(spool, fields.frames),
        pictures_fps=fields.fps,
        audio=spool.source(fields.audio) if fields.audio else None,
    )
    return Question(task, bundle, recording, fields.span, fields.follow, fields.frame_detail)


async def covered(chunks: AsyncIterator[bytes], place: Place) -> AsyncIterator[bytes]:
    """The same chunks, each paid for from the budget of all uploads."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        place.cover(total)
        yield chunk


async def while_connected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of `work`; ClientGone, with `work` cancelled and ended, soon after the client has left."""
    client = Client(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if client.called_off():
            raise ClientGone from None
        raise
    finally:
        await client.ignore()


class Client:
    """Cancels the task that makes this, once the client has left; within `WATCH_AFTER_S` nobody looks."""

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None  # a request is answered in one
        self.receive, self.task, self.cancelled_before = receive, task, task.cancelling()
        self.watching: asyncio.Task[None] | None = None
        self.left = self.ignored = False
        self.timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self.watch)

    def watch(self) -> None:
        self.watching = asyncio.create_task(disconnected(self.receive))
        self.watching.add_done_callback(self.leave)

    def leave(self, watching: "asyncio.Task[None]") -> None:
        if not self.ignored and not watching.cancelled():
            self.left = True
            self.task.cancel()

    def called_off(self) -> bool:
        """Whether a cancellation was this one's, and no other's too."""
        return self.left and self.task.uncancel() <= self.cancelled_before

    async def ignore(self) -> None:
        """Whether the client leaves does not matter any more."""
        self.ignored = True
        self.timer.cancel()
        if self.watching is not None:
            self.watching.cancel()
            await ended(self.watching)
