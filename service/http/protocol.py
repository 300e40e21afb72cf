"""uvicorn's HTTP/1.1 on llhttp, with what they leave out: limits, and what two servers in a row may read differently.

llhttp is strict about framing and line ends. Refused beside that is what another server could take for more, fewer or
other requests (RFC 9112, sections 3.2, 6.1, 6.3 and 7.1), and what would hold a connection for nothing.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from starlette.responses import Response
from starlette.types import ASGIApp, Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.closing import UNREAD_S
from service.http.framing import (
    BAD_REQUEST,
    CLOSE,
    DISCARD_BYTES,
    DISCARD_S,
    HeaderList,
    Refused,
    has_body,
    is_short,
    refuse_ambiguous,
    whole,
)
from service.http.gathered import Gathered
from service.http.head_with_body import HeadWithBody
from service.http.shared_buffer import READ_BYTES
from service.http.ways import Way, Ways
from service.http.without_chunks import without_chunks

HEADERS_WITHIN_S: Final = 10.0
MAX_HEADER_BYTES: Final = 65_536
BLANKS: Final = b" \t"
"""What may stand around a header's value and is no part of it (RFC 9110, section 5.5); llhttp drops those before it."""
MAX_PIPELINED: Final = 16
"""Requests that may wait on one connection for the answer to an earlier one."""
GATHER_S: Final = 0.01
"""So long a body gathers, unless it ends or grows beyond `READ_BYTES`, before the app is woken for what came of it."""
CUT_SHORT: Final = "cut_short"
"""In the state of a scope whose client closed its side before the body was complete."""
OK: Final = 200


class Connection(HttpToolsProtocol):
    """One connection. It is closed where a request's headers are not complete `HEADERS_WITHIN_S` after its begin.

    Broken HTTP gets a bare 400; a whole request before it is answered first.
    """

    def __init__(
        self,
        *args: Any,
        gate: Callable[[Scope], Response | None],
        express: Ways,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.gate, self.express = gate, express
        self.running: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the last one that came."""
        self.within_head = False
        self.head_bytes = 0
        self.unparsed_bytes = 0
        """What came since the last headers, or the last part of a body."""
        self.deaf = False
        """Whether what still comes is thrown away."""
        self.discarded_bytes = 0
        self.refused = False
        """Whether the request whose body comes has its answer already."""
        self.gathering: asyncio.TimerHandle | None = None
        self.held: ASGI3Application | None = None
        """What answers the request that comes, unless its body comes soon enough for a shorter way."""
        self.way: Way | None = None
        """That of the request that is being answered, if it goes one without the app."""
        self.timer: asyncio.TimerHandle | None = None
        self.unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.writer = HeadWithBody(transport)
        self.transport = self.writer  # type: ignore[assignment]  # it has all methods of the other
        self.close_after(HEADERS_WITHIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_gathering()
        self.stop_timer()
        self.stop_unread_timer()
        self.leave_running()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self.discard(len(data))
            return
        self.unparsed_bytes += len(data)
        super().data_received(data)
        if self.deaf or self.refused:
            return
        if self.unparsed_bytes > MAX_HEADER_BYTES:
            self.send_400_response("The headers are too large.")
        elif self.within_head or self.cycle is None or self.cycle.response_complete:
            if self.timer is None:
                self.close_after(HEADERS_WITHIN_S)
        elif self.timer is not None:
            self.stop_timer()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's own returns nothing, which means to close
        """Whether to keep the other direction open: a client that sent too little may still read what is wrong."""
        cycle = self.cycle
        if self.deaf or self.within_head or cycle is None or not cycle.more_body or cycle.response_started:
            return False
        if not self.writer.transport.can_write_eof():  # over TLS both directions end together
            return False
        self.deaf = True
        self.start_held()
        cycle.scope["state"][CUT_SHORT] = True
        cycle.keep_alive = cycle.more_body = False
        cycle.message_event.set()
        return True

    def discard(self, size: int) -> None:
        self.discarded_bytes += size
        if self.discarded_bytes > DISCARD_BYTES:
            self.transport.pause_reading()  # and to close is the timer's: at once, it would reset the connection

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Refused
        super().on_message_begin()
        self.within_head, self.head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > MAX_HEADER_BYTES:
            raise Refused
        if self.within_head:  # a trailer must not pass for a header
            super().on_header(name, value.rstrip(BLANKS))

    def on_headers_complete(self) -> None:
        self.within_head, self.unparsed_bytes = False, 0
        refuse_ambiguous(self.parser.get_http_version(), self.url, self.headers)
        upgrades = self.parser.should_upgrade()
        if upgrades and (self.parser.get_method() == b"CONNECT" or has_body(self.headers) or self.is_answering()):
            raise Refused  # llhttp would read the body as the next request
        super().on_headers_complete()
        if upgrades and not self._should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self.unparsed_bytes = 0
        cycle = self.cycle
        if self.refused or cycle.response_complete:
            return
        # uvicorn would wake the app for each part, copy it twice, and stop to read after each 64 kB
        if not cycle.body:
            cycle.body = Gathered()  # type: ignore[assignment]  # uvicorn asks for its bytes and its truth only
        cycle.body += body
        if len(cycle.body) > READ_BYTES:
            self.flow.pause_reading()
            self.stop_gathering()
            cycle.message_event.set()
        elif self.gathering is None and not cycle.message_event.is_set():
            self.gathering = self.loop.call_later(GATHER_S, self.give_gathered)

    def give_gathered(self) -> None:
        """Wake the app for the part of a body that has come so far."""
        self.gathering = None
        self.start_held()
        self.cycle.message_event.set()

    def stop_gathering(self) -> None:
        if self.gathering is not None:
            self.gathering.cancel()
            self.gathering = None

    def on_message_complete(self) -> None:
        self.unparsed_bytes = 0
        self.stop_gathering()
        if self.refused:
            self.end(self.cycle)
            return
        super().on_message_complete()
        if self.held is not None and self.way is None:
            scope, answer = cast("Scope", self.cycle.scope), partial(self.answer, self.cycle)
            self.way = self.express.set_out(scope, bytes(self.cycle.body), answer, self.decline)
            self.start_held()

    def on_response_complete(self) -> None:
        self.writer.answered()
        super().on_response_complete()
        if self.within_head and self.timer is None:
            self.close_after(HEADERS_WITHIN_S)

    def handle_websocket_upgrade(self) -> None:
        """The connection is another protocol's from now on."""
        self.deaf = True
        self.stop_timer()
        self.transport = self.writer.transport
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        self.unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stop_unread_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer broken HTTP, and close."""
        self.deaf = True
        last = self.cycle
        if last is not None and not last.response_complete and not last.more_body:
            last.keep_alive = False
            return
        self.leave_running()
        self.writer.flush()
        if self.running is None or self.running.response_complete or not self.running.response_started:
            self.writer.transport.write(BAD_REQUEST % (len(msg), msg.encode("ascii")))
        if self.writer.transport.can_write_eof():  # TLS has no such half
            self.writer.transport.write_eof()
        self.stop_timer()
        self.close_after(DISCARD_S)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        scope = cast("Scope", cycle.scope)
        # who takes no answers gets no more of them: the app waits, while these ways would fill the memory
        refusal = None if self.flow.write_paused else self.gate(scope)
        if refusal is not None:
            self.refuse(cycle, refusal)
            return
        if scope["http_version"] == "1.0":
            app = partial(without_chunks, cast("ASGIApp", app), cycle)
        if cycle.more_body and not cycle.waiting_for_100_continue and self.express.takes(scope):
            self.held = app
            self.gathering = self.loop.call_later(GATHER_S, self.give_gathered)
        else:
            super()._start_asgi_task(cycle, app)

    def start_held(self) -> None:
        """Let the app answer the request that waits, if there is one and it has not taken a shorter way."""
        if self.held is not None and self.way is None and self.running is not None:
            app, self.held = self.held, None
            super()._start_asgi_task(self.running, app)

    def decline(self) -> None:
        """The shorter way has led to no answer."""
        self.way = None
        self.start_held()

    def answer(self, cycle: RequestResponseCycle, headers: HeaderList, body: bytes) -> None:
        """Send the answer of a request that took a shorter way."""
        self.held = self.way = None
        cycle.body = bytearray()  # nobody needs it any more, and the connection may be idle for long
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers = [*headers, CLOSE]
        self.writer.transport.write(whole(OK, [*cycle.default_headers, *headers], body))
        cycle.response_started = True
        self.end(cycle)

    def refuse(self, cycle: RequestResponseCycle, refusal: Response) -> None:
        """Answer at once. What comes of the body is dropped; where it ends soon, the connection lives on."""
        goes_on = cycle.keep_alive and CLOSE not in refusal.raw_headers
        cycle.keep_alive = goes_on and not cycle.waiting_for_100_continue and is_short(cycle.scope["headers"])
        headers = [*cycle.default_headers, *refusal.raw_headers]
        if not cycle.keep_alive and CLOSE not in headers:
            headers.append(CLOSE)
        self.writer.transport.write(whole(refusal.status_code, headers, bytes(refusal.body)))
        cycle.response_started = True
        if not cycle.more_body:
            self.end(cycle)
            return
        self.stop_timer()
        self.close_after(DISCARD_S)
        if cycle.keep_alive:
            self.refused = True
            return
        self.deaf = True
        if self.writer.transport.can_write_eof():  # TLS has no such half
            self.writer.transport.write_eof()

    def end(self, cycle: RequestResponseCycle) -> None:
        """A request that the app knows nothing of has ended; the next one may come."""
        self.refused = False
        self.stop_timer()
        cycle.more_body, cycle.response_complete = False, True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """So clients offer HTTP/2. The answer is HTTP/1.1, on a connection of its own."""
        self.deaf = True

    def is_answering(self) -> bool:
        return self.running is not None and not self.running.response_complete

    def leave_running(self) -> None:
        """Let those who work on it know that nobody waits for the answer."""
        self.start_held()
        if self.way is not None:
            self.way.abandon()
            self.held = self.way = None
        if self.running is not None and self.is_answering():
            self.running.disconnected = True
            self.running.message_event.set()

    def close_after(self, seconds: float) -> None:
        self.timer = self.loop.call_later(seconds, self.transport.close)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def stop_unread_timer(self) -> None:
        if self.unread_timer is not None:
            self.unread_timer.cancel()
            self.unread_timer = None
