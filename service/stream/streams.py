"""All open streams of one app: how many there may be, how each begins, and how all end when the service drains."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from starlette.responses import Response
from starlette.websockets import WebSocket

from models.spec import Task
from service.access.access import Access
from service.context import RequestContext
from service.errors import ClientGone, MalformedRequest, Overloaded, ServiceError, UploadTooSlow, problem_response
from service.lifecycle import Lifecycle
from service.settings import Settings
from service.stream.messages import SUBPROTOCOL, Hello, read_hello
from service.stream.newcomers import Newcomers
from service.stream.session import Asked, GoingAway, Session
from service.stream.wire import DONE, GOING_AWAY, close, fail, receive
from service.telemetry.logs import logger
from service.telemetry.metrics import Telemetry

HELLO_WITHIN_S: Final = 5.0
NEWCOMERS_A_STREAM: Final = 4
"""How many may be about to say hello, for each stream that may be open."""
RETRY_AFTER_S: Final = 10


class Streams:
    """Each stream has a thread of its own, so that it never waits for a recording to be decoded."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, telemetry: Telemetry, access: Access) -> None:
        self.settings, self.lifecycle, self.telemetry, self.access = settings, lifecycle, telemetry, access
        self.threads = ThreadPoolExecutor(settings.max_streams, "stream")
        self.newcomers = Newcomers(NEWCOMERS_A_STREAM * settings.max_streams)
        self.open: set[asyncio.Event] = set()
        """Of each open stream, what to set where it shall leave."""

    async def serve(self, task: Task, socket: WebSocket) -> None:
        """A stream from its handshake to its end, whatever happens."""
        context: RequestContext = socket.state.context
        context.task, context.client = task, socket.state.edge.client
        if SUBPROTOCOL not in socket.scope["subprotocols"]:
            await refuse(socket, context, MalformedRequest(f"the subprotocol must be {SUBPROTOCOL}"))
            return
        try:
            await socket.accept(SUBPROTOCOL)
            await self.answer(task, socket, context)
            await close(socket, DONE)
        except GoingAway:
            await close(socket, GOING_AWAY)
        except ClientGone:
            context.code = "client_gone"
        except ServiceError as error:
            context.code = error.code
            await fail(socket, error, context.request_id)
        except Exception:
            context.code = ServiceError.code
            logger.exception("stream %s failed", context.request_id)
            bug = ServiceError("this is a bug in the service; report it with its request_id")
            await fail(socket, bug, context.request_id)

    async def answer(self, task: Task, socket: WebSocket, context: RequestContext) -> None:
        """Raises ServiceError, ClientGone and GoingAway."""
        if self.lifecycle.draining:
            raise GoingAway
        self.lifecycle.require()
        hello = await self.hello(socket, context.client)
        if self.lifecycle.draining:
            raise GoingAway
        with self.access.admitted(hello.token, context), self.place() as leave:
            await self.begun(task, hello, socket, context, leave).run()

    def begun(
        self, task: Task, hello: Hello, socket: WebSocket, context: RequestContext, leave: asyncio.Event
    ) -> Session:
        """A stream, which may last for days: of all that is loaded it holds its own bundle. Raises ServiceError."""
        resources = self.lifecycle.require(context.request_id)
        asked = Asked.of(hello, task, resources.shelf, self.settings.max_stream_message_bytes)
        return Session(asked, socket, context, self.access, resources.pipeline, self.telemetry, self.threads, leave)

    async def hello(self, socket: WebSocket, address: str) -> Hello:
        """Raises ServiceError and ClientGone."""
        coming = receive(socket, self.settings.max_stream_message_bytes)
        try:
            came = await self.newcomers.hear(coming, address, HELLO_WITHIN_S)
        except TimeoutError:
            raise UploadTooSlow(f"the hello did not come within {HELLO_WITHIN_S:g} s") from None
        if came.get("text") is None:
            raise MalformedRequest("the first message must be the hello, as text")
        return read_hello(came["text"])

    @contextmanager
    def place(self) -> Iterator[asyncio.Event]:
        """A place among the open streams, and what is set where it shall be left. Raises Overloaded."""
        if len(self.open) >= self.settings.max_streams:
            raise Overloaded(
                f"{len(self.open)} streams are open, as many as are allowed; try again in {RETRY_AFTER_S} s",
                RETRY_AFTER_S,
            )
        leave = asyncio.Event()
        self.open.add(leave)
        self.telemetry.streams.inc()
        try:
            yield leave
        finally:
            self.open.discard(leave)
            self.telemetry.streams.dec()

    def leave(self) -> None:
        """Let every stream end, as the service drains; its client may begin another one elsewhere."""
        for leave in self.open:
            leave.set()

    def close(self) -> None:
        """Give back the threads; every stream has ended."""
        self.threads.shutdown()


async def refuse(socket: WebSocket, context: RequestContext, error: ServiceError) -> None:
    """Answer a handshake with a problem; with 403 where the server cannot do that."""
    context.code = error.code
    response: Response = problem_response(error, context.request_id)
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close()
