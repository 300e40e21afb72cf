"""What every exchange has in common: its id, its headers, its log line, and an end that the client can read."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import RequestContext, new_context
from service.errors import ClientGone, ServiceError, error_response
from service.telemetry import Telemetry

MAX_HEADER_BYTES: Final = 65_536
DISCARD_BYTES: Final = 1 << 20
DISCARD_S: Final = 1.0

logger = logging.getLogger("pkdot.requests")


class RequestMiddleware:
    """Pure ASGI. `closing()` says whether connections should end after their answer, as while draining."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, closing: Callable[[], bool]) -> None:
        self.app = app
        self.telemetry = telemetry
        self.closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            await Response("The headers are too large.", 400, {"connection": "close"})(scope, receive, send)
            return
        context = new_context(scope["headers"], time.monotonic())
        scope.setdefault("state", {})["context"] = context
        exchange = Exchange(scope, receive, send, context, self)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientGone:
            context.code = "client_gone"
            exchange.status = 499  # never sent; nginx's name for it in logs and metrics
        except Exception:
            context.code = ServiceError.code
            logger.exception("request %s failed", context.request_id)
            if not exchange.status:
                error = ServiceError("this is a bug in the service; report it with its X-Request-ID")
                response = error_response(error, scope["path"], context.request_id)
                await response(scope, exchange.receive, exchange.send)
        finally:
            self.finish(scope, exchange)

    def finish(self, scope: Scope, exchange: "Exchange") -> None:
        context = exchange.context
        took_s = (exchange.answered_s or time.monotonic()) - context.started_s
        self.telemetry.request_ended(context, exchange.status, took_s)
        quiet = context.task is None and exchange.status < 400  # probes and scrapes come every few seconds
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %d %s %.1f ms request=%s trace=%s",
            scope["method"],
            ascii(scope["path"])[1:-1],  # a decoded path may hold line ends, and so forge lines of this log
            exchange.status,
            context.code,
            1000 * took_s,
            context.request_id,
            context.trace_id or "-",
        )


class Exchange:
    """One request and its answer: adds the headers, and knows whether the whole body was read."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, context: RequestContext, middleware: RequestMiddleware
    ) -> None:
        names = dict(scope["headers"])
        self.upstream_receive, self.upstream_send = receive, send
        self.context = context
        self.telemetry, self.closing = middleware.telemetry, middleware.closing
        self.unread = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self.status = 0
        self.answered_s: float | None = None
        """When the answer was sent; what is still read of the body afterwards is not the request's time."""

    async def receive(self) -> Message:
        message = await self.upstream_receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self.headers()]}
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

    def headers(self) -> list[tuple[bytes, bytes]]:
        added = {"x-request-id": self.context.request_id, "cache-control": "no-store"}
        if self.context.task is not None:
            added["endpoint-load-metrics"] = self.telemetry.load_report()
            if timing := self.context.server_timing():
                added["server-timing"] = timing
        if self.closing() or self.unread:
            added["connection"] = "close"
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in added.items()]

    async def discard(self) -> None:
        left = DISCARD_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while self.unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
