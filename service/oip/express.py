"""The shortest way to an answer: a small inference request that has come whole is answered without a task of its own.

It goes from the connection to the batcher, and back from there. Only answers go this way: whatever is wrong with a
request, before or after it was computed, is the app's to say, which then begins as if it had just come.
"""

import logging
import time
from asyncio import Future
from collections.abc import Callable, Sized
from contextlib import ExitStack
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from service.access.access import Access, bearer_token
from service.batcher.batch import BatchAnswer, BatchInterrupted, DeadlineExceeded
from service.context import Finished, RequestContext
from service.errors import ServiceError
from service.http.framing import CLOSE, HeaderList
from service.http.ways import Way
from service.lifecycle import Lifecycle, Resources
from service.middleware import added_headers
from service.oip.address import Address
from service.oip.body import json_size
from service.oip.calls import Call, find
from service.oip.infer import (
    INLINE_JSON_BYTES,
    INLINE_TENSOR_BYTES,
    INLINE_WINDOWS,
    TensorInference,
    note,
    refuse_encoding,
    respond,
)
from service.oip.outputs import of_observed
from service.oip.tensors import input_windows
from service.runtime.device import Row
from service.telemetry.metrics import Telemetry
from service.uploads.admission import Place
from service.uploads.upload import Spool

OK: Final = 200
CLIENT_GONE: Final = 499
"""Never sent, as in the middleware."""

logger = logging.getLogger("pkdot")


class Express:
    """Ways for the requests of one app."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        access: Access,
        telemetry: Telemetry,
        inference: TensorInference,
        report: Callable[[Finished], None],
        has_entered: Callable[[], None],
        streams: Sized,
    ) -> None:
        """`has_entered` is told of each request before it takes its place, which the gate had counted as on its way.

        `streams` are those that are open.
        """
        self.lifecycle, self.access, self.telemetry = lifecycle, access, telemetry
        self.inference, self.report, self.has_entered, self.streams = inference, report, has_entered, streams

    def takes(self, scope: Scope) -> bool:
        """Whether a request that the gate has let in may go this way, should its body come soon."""
        if scope["state"].get("address") is None:
            return False
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        return len(lengths) == 1 and int(lengths[0]) <= INLINE_TENSOR_BYTES

    def set_out(
        self, scope: Scope, body: bytes, answer: Callable[[HeaderList, bytes], None], decline: Callable[[], None]
    ) -> Way | None:
        """The request is on its way, or is the app's to answer (None).

        Later `answer` is called with headers and body, or `decline` where the app is to answer after all.
        """
        self.has_entered()
        try:
            return Trip(self, scope, body, answer, decline)
        except (ServiceError, BatchInterrupted, DeadlineExceeded, Unsuitable):
            return None
        except Exception:  # within the parser it would pass for a broken request
            logger.exception("request %s failed", scope["state"]["context"].request_id)
            return None


class Unsuitable(Exception):
    """A request that needs the app."""


class Trip:
    """One request between its body's end and its answer."""

    def __init__(
        self,
        express: Express,
        scope: Scope,
        body: bytes,
        answer: Callable[[HeaderList, bytes], None],
        decline: Callable[[], None],
    ) -> None:
        self.express, self.scope, self.answer, self.decline = express, scope, answer, decline
        self.context: RequestContext = scope["state"]["context"]
        self.request_bytes = len(body)
        self.over = False
        """Whether the client has left: the batcher's answer may be on its way all the same."""
        headers = Headers(scope=scope)
        self.resources: Resources = express.lifecycle.require(self.context.request_id)
        self.address: Address = scope["state"]["address"]
        refuse_encoding(headers)
        predictor = express.inference.predictor
        deadline_s = self.context.started_s + predictor.timeout_s(headers)
        with ExitStack() as stack:
            stack.enter_context(express.access.admitted(bearer_token(scope["headers"]), self.context))
            self.call, self.place = self.understand(self.address, headers, body, stack)
            self.items = self.rows(body)
            until_s = min(deadline_s, self.context.started_s + self.call.timeout_s)
            if self.call.batch > 1 or until_s < deadline_s:  # for one window the gate has looked a moment ago
                self.resources.refuse_tensors(self.call.runner.key, until_s - time.monotonic(), self.call.batch)
            self.place.coming_s = 0.0  # it is about to be queued, and was weighed just now
            uploaded_s = time.monotonic() - self.context.started_s
            lone = self.resources.admission.at_work == 1 and not express.streams
            self.request = self.resources.batcher.submit(
                self.call.runner, self.items, deadline_s=until_s, loop_is_free=lone
            )
            self.held = stack.pop_all()
        self.context.task, self.context.stage = self.call.bundle.task, "queue"
        self.context.add("upload", uploaded_s)
        express.telemetry.request_began(self.context)
        self.request.answer.add_done_callback(self.arrive)

    def understand(self, address: Address, headers: Headers, body: bytes, stack: ExitStack) -> tuple[Call, Place]:
        """What is asked, and the place that is held for it. Raises what is wrong with it."""
        inference = self.express.inference
        bundle = find(self.resources.shelf, address.name, address.version)
        place = stack.enter_context(self.resources.admission.place(bundle.tensors, len(body)))
        given_bytes = json_size(headers, len(body))
        self.json_bytes = len(body) if given_bytes is None else given_bytes
        if self.json_bytes > INLINE_JSON_BYTES:
            raise Unsuitable
        text, max_batch = body[: self.json_bytes], inference.settings.max_windows
        call = self.resources.calls.understand(text, bundle, max_batch=max_batch)
        if call.batch > INLINE_WINDOWS or self.json_bytes + call.binary_bytes != len(body):
            raise Unsuitable
        return call, place

    def rows(self, body: bytes) -> list[Row]:
        """The windows that are sent. Raises InvalidField for wrong values."""
        settings = self.express.inference.settings
        spool = Spool(settings.spool_dir, settings.spool_memory_bytes, self.resources.threads)
        spool.hold(memoryview(body)[self.json_bytes :])
        arrays, self.observed = input_windows(self.call, spool)
        return [Row(arrays, row) for row in range(self.call.batch)]

    def arrive(self, future: "Future[BatchAnswer]") -> None:
        """The batcher has an answer, or none."""
        if future.cancelled() or self.over:
            return
        self.resources.batcher.leave(self.request)
        if future.exception() is not None:
            self.turn_back()
            return
        try:
            headers, body = self.render(future.result())
        except Exception:
            logger.exception("request %s failed", self.context.request_id)
            self.turn_back()
            return
        self.held.close()  # the next request on the connection begins with the answer
        self.answer(headers, body)
        self.end(OK, len(body))

    def render(self, answer: BatchAnswer) -> tuple[HeaderList, bytes]:
        express, context = self.express, self.context
        answer = answer._replace(output=of_observed(answer.output, self.observed))
        note(answer, self.items, self.call, self.resources, context)
        self.place.answered(context.seconds)
        response = respond(express.inference.render(self.call, answer))
        added = added_headers(response.raw_headers, context, express.telemetry, over_tls=express.access.tls is not None)
        closing = [CLOSE] if express.lifecycle.draining else []
        return [*response.raw_headers, *added, *closing], bytes(response.body)

    def abandon(self) -> None:
        """The client has left."""
        self.over = True
        self.resources.batcher.leave(self.request)
        self.context.code = "client_gone"
        self.end(CLIENT_GONE, 0)

    def turn_back(self) -> None:
        """Leave no trace but how long the body took to come, and let the app begin."""
        self.held.close()
        self.express.telemetry.request_withdrawn(self.context)
        self.context.task, self.context.stage, self.context.largest_batch = None, "upload", 0
        self.context.seconds = {"upload": self.context.seconds["upload"]}
        self.decline()

    def end(self, status: int, response_bytes: int) -> None:
        self.held.close()
        took_s = time.monotonic() - self.context.started_s
        self.express.telemetry.request_ended(self.context, status, took_s)
        facts = (self.scope["method"], self.scope["path"], self.address.path, status, took_s)
        self.express.report(Finished(self.context, *facts, self.request_bytes, response_bytes))
