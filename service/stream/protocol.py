"""uvicorn's WebSockets, with what it leaves out: handshakes that cannot be read, clients that do not read."""

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

UNREAD_S: Final = 30.0
"""A client that takes nothing of what was sent for so long is given up."""
MAX_FRAGMENTS: Final = 1024
"""Parts of one message; they may be empty, so the limit of its bytes does not bound them."""


class StreamProtocol(WebSocketsSansIOProtocol):
    """One connection. A service that stops closes it with 1001."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unread_timer: Any = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.unread_timer = self.loop.call_later(UNREAD_S, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stop_unread_timer()
        super().resume_writing()

    def stop_unread_timer(self) -> None:
        if self.unread_timer is not None:
            self.unread_timer.cancel()
            self.unread_timer = None

    def shutdown(self) -> None:
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY, "reason": ""})
        self.conn.send_close(CloseCode.GOING_AWAY)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
