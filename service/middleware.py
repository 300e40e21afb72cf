"""What every exchange has in common: its id, its headers, its log line, and an end that the client can read."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.headers import security_headers
from service.context import Finished, RequestContext, new_context
from service.errors import GIVEN_UP, ClientGone, MalformedRequest, NotReady, ServiceError, error_response
from service.http.framing import CLOSE, DISCARD_BYTES, DISCARD_S, HeaderList, has_body
from service.http.protocol import CUT_SHORT
from service.predictions import is_prediction
from service.stream.exchange import StreamExchange
from service.telemetry.logs import logger
from service.telemetry.metrics import Telemetry

NDJSON: Final = (b"content-type", b"application/x-ndjson")
NO_STORE: Final = (b"cache-control", b"no-store")


class RequestMiddleware:
    """Pure ASGI. `closing()` says whether connections should end after their answer, as while draining.

    `report` is told of every request when it is over.
    """

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        over_tls: bool,
        closing: Callable[[], bool],
        report: Callable[[Finished], None],
    ) -> None:
        self.app = app
        self.report = report
        self.telemetry = telemetry
        self.over_tls = over_tls
        self.closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.stream(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        context: RequestContext = state.get("context") or new_context(scope["headers"], time.monotonic())
        state["context"] = context
        context.predicts = is_prediction(scope["path"])
        exchange = Exchange(scope, receive, send, context, self)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientGone:
            context.code = "client_gone"
            if exchange.cut_short:  # whether anybody reads it cannot be known
                await refuse(MalformedRequest("the body ended before its announced end; send all of it"), exchange)
            exchange.status = 499  # never sent; nginx's name for it in logs and metrics
        except asyncio.CancelledError:
            context.code = NotReady.code
            await refuse(NotReady(GIVEN_UP), exchange)
        except Exception:
            context.code = ServiceError.code
            logger.exception("request %s failed", context.request_id)
            await refuse(ServiceError("this is a bug in the service; report it with its X-Request-ID"), exchange)
        finally:
            self.finish(scope, exchange)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream has its own end; it is in the log when it is over, and in the metrics of streams only."""
        context = new_context(scope["headers"], time.monotonic())
        scope.setdefault("state", {})["context"] = context
        exchange = StreamExchange(receive, send, context.request_id)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        finally:
            took_s = time.monotonic() - context.started_s
            facts = ("GET", scope["path"], getattr(scope.get("route"), "path", ""), exchange.status, took_s)
            self.report(Finished(context, *facts, exchange.request_bytes, exchange.response_bytes))

    def finish(self, scope: Scope, exchange: "Exchange") -> None:
        context = exchange.context
        took_s = (exchange.answered_s or time.monotonic()) - context.started_s
        self.telemetry.request_ended(context, exchange.status, took_s)
        route = getattr(scope.get("route"), "path", "")
        facts = (scope["method"], scope["path"], route, exchange.status, took_s)
        self.report(Finished(context, *facts, exchange.request_bytes, exchange.response_bytes))


class Exchange:
    """One request and its answer: adds the headers, and knows whether the whole body was read."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext, middleware: RequestMiddleware
    ) -> None:
        self.scope, self.upstream_receive, self.upstream_send = scope, receive, send
        self.context = context
        self.middleware = middleware
        self.unread = has_body(scope["headers"])
        self.state = scope["state"]
        self.cut_short = False
        """Whether the client closed its side before the body was complete."""
        self.status = 0
        self.request_bytes = self.response_bytes = 0
        """Of the bodies, as far as they were read and sent."""
        self.answered_s: float | None = None
        """When the answer was sent; what is still read of the body afterwards is not the request's time."""

    async def receive(self) -> Message:
        if self.cut_short:
            return {"type": "http.disconnect"}
        message = await self.upstream_receive()
        size = len(message.get("body", b""))
        self.request_bytes += size
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.unread = False
            if CUT_SHORT in self.state:
                self.cut_short = True
                return {**message, "more_body": True} if size else {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message.get("headers", [])
            message = {**message, "headers": [*given, *self.headers(given)]}
        self.response_bytes += len(message.get("body", b""))
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last:
            self.answered_s = time.monotonic()
        if not (last and self.unread):
            await self.upstream_send(message)
            return
        # The answer goes out first. To close on a client that is still sending would reset the connection, and
        # the client might never see the answer; so a little more is read.
        await self.upstream_send({**message, "more_body": True})
        await self.discard()
        await self.upstream_send({"type": "http.response.body", "body": b"", "more_body": False})

    def headers(self, given: HeaderList) -> HeaderList:
        middleware = self.middleware
        added = added_headers(given, self.context, middleware.telemetry, over_tls=middleware.over_tls)
        if middleware.closing() or self.unread:
            added.append(CLOSE)
        return added

    async def discard(self) -> None:
        left = DISCARD_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while self.unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
                if self.unread:  # a client that sends on has the rest of the time to see its answer
                    await asyncio.sleep(DISCARD_S)


async def refuse(error: ServiceError, exchange: Exchange) -> None:
    """Answer with `error`, unless an answer has begun."""
    if not exchange.status:
        response = error_response(error, exchange.scope["path"], exchange.context.request_id)
        await response(exchange.scope, exchange.receive, exchange.send)


def added_headers(given: HeaderList, context: RequestContext, telemetry: Telemetry, *, over_tls: bool) -> HeaderList:
    """What an answer with the headers `given` gets; a stream begins before its stages are over, and tells no times."""
    added = [(b"x-request-id", context.request_id.encode("ascii")), NO_STORE]
    added += security_headers(given, over_tls=over_tls)
    if context.predicts:
        added.append((b"endpoint-load-metrics", telemetry.load_report().encode("ascii")))
        if NDJSON not in given:
            added.append((b"server-timing", context.server_timing().encode("ascii")))
    return added
