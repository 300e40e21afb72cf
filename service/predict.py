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
from starlette.types import Receive

from models.inputs.prepare import Prepared, Recording
from models.spec import Task
from service.admission import Place
from service.answers import build_reply, calibrate
from service.bundles import BundleShelf, LoadedBundle, UnknownBundle
from service.context import RequestContext
from service.errors import ClientGone, DeadlineExceeded, FieldError, InvalidField, MalformedRequest
from service.fields import FILES, TEXTS, Fields, decimal, read_fields
from service.form import Form, boundary_of, read_form
from service.lifecycle import Lifecycle, Resources
from service.offload import ended, offload
from service.pipeline import Computed, Question
from service.settings import Settings
from service.telemetry import Telemetry
from service.upload import BodyLimits, Pictures, Spool, read_body, too_large

T = TypeVar("T")
DIGITS: Final = re.compile(r"[0-9]{1,20}")


class Predictor:
    """Answers the predictions of one app."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, telemetry: Telemetry) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.telemetry = telemetry

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
        """X-Request-Timeout, capped; the default where there is none."""
        given = headers.get("x-request-timeout")
        asked_s = self.settings.request_timeout_s if given is None else decimal(given)
        if asked_s is None or asked_s <= 0:
            raise InvalidField([FieldError("X-Request-Timeout", f"must be seconds over 0; got {given!r:.34}")])
        return min(asked_s, self.settings.max_request_timeout_s)

    async def answer_in_time(self, task: Task, request: Request, deadline_s: float) -> Response:
        resources = self.lifecycle.require()
        boundary = boundary_of(request.headers.get("content-type", ""))
        declared_bytes = self.declared_bytes(request.headers)
        self.refuse_hopeless(task, resources, deadline_s)
        with resources.admission.place(declared_bytes) as place:
            spool = Spool(self.settings.spool_dir, self.settings.spool_memory_bytes, resources.threads)
            try:
                form = await self.read_upload(task, request, boundary, spool, place)
                question = ask(task, read_fields(form, task), spool, resources.shelf)
                return await self.reply(question, request, resources, deadline_s)
            finally:
                spool.close()

    def declared_bytes(self, headers: Headers) -> int:
        """Content-Length, 0 where there is none; TooLarge where it is over the limit."""
        given = headers.get("content-length", "0")
        if not DIGITS.fullmatch(given):
            raise MalformedRequest("Content-Length is not a number of bytes")
        if int(given) > self.settings.max_upload_bytes:
            raise too_large(self.settings.max_upload_bytes)
        return int(given)

    def refuse_hopeless(self, task: Task, resources: Resources, deadline_s: float) -> None:
        """Raise at the headers where no upload can help: no bundle for the task, or a queue beyond the deadline."""
        bundle = default_bundle(resources.shelf, task)
        key = next(iter(bundle.runners.values())).key
        wait_s = resources.pipeline.decoders.predicted_wait_s() + resources.batcher.predicted_wait_s(key, 1)
        left_s = deadline_s - time.monotonic()
        if wait_s > left_s:
            raise DeadlineExceeded(f"the queue would take {wait_s:.2f} s, but only {left_s:.2f} s are left")

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

    async def reply(self, question: Question, request: Request, resources: Resources, deadline_s: float) -> Response:
        context: RequestContext = request.state.context
        work = resources.pipeline.compute(question, deadline_s, context)
        prepared, computed = await while_connected(work, request.receive)
        render_it = partial(render, question, prepared, computed, context, self.telemetry)
        return Response(await offload(resources.threads, render_it), media_type="application/json")


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
    return Question(task, bundle, recording, fields.span, fields.frame_detail)


def render(
    question: Question, prepared: Prepared, computed: list[Computed], context: RequestContext, telemetry: Telemetry
) -> bytes:
    """The answer as JSON, and its windows counted; with thousands of them too long a work for the event loop."""
    answered = calibrate(question, computed)
    telemetry.answered(question.bundle.bundle, answered)
    reply = build_reply(question, prepared, answered, context, time.monotonic() - context.started_s)
    without = None if question.frame_detail else {"windows": {"__all__": {"frames"}}}
    return reply.model_dump_json(by_alias=True, exclude=without).encode()


async def covered(chunks: AsyncIterator[bytes], place: Place) -> AsyncIterator[bytes]:
    """The same chunks, each paid for from the budget of all uploads."""
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        place.cover(total)
        yield chunk


async def while_connected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of `work`; ClientGone, with `work` cancelled and ended, as soon as the client has left."""
    working, watching = asyncio.create_task(work), asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise ClientGone
    finally:
        working.cancel()
        watching.cancel()
        await ended(working, watching)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
