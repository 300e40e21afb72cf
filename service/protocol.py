"""uvicorn's HTTP/1.1 with what it leaves out: a time in which a request's headers must have come."""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_WITHIN_S: Final = 10.0


class Protocol(H11Protocol):
    """One connection. It is closed where a request's headers are not complete `HEADERS_WITHIN_S` after its begin."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self.expect_headers()
        else:
            self.headers_came()

    def expect_headers(self) -> None:
        if self.headers_timer is None:
            self.headers_timer = self.loop.call_later(HEADERS_WITHIN_S, self.transport.close)

    def headers_came(self) -> None:
        if self.headers_timer is not None:
            self.headers_timer.cancel()
            self.headers_timer = None
