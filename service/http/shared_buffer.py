"""Reading from sockets into one buffer that all connections of a server share."""

import asyncio
from collections.abc import Callable
from typing import Final

READ_BYTES: Final = 1 << 20
"""Taken from the system at a time: bodies of small requests come in one piece, and are not copied together."""


class SharedBuffer(asyncio.BufferedProtocol):
    """The socket's side of `connection`, which gets views of the buffer and keeps none.

    It stands apart, since uvloop asks no protocol for a buffer that is an `asyncio.Protocol` too, as uvicorn's are.
    """

    def __init__(self, connection: asyncio.Protocol, buffer: memoryview) -> None:
        self.connection, self.buffer = connection, buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a protocol's signature
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.connection.data_received(self.buffer[:nbytes])  # type: ignore[arg-type]  # the parser reads any buffer

    def eof_received(self) -> bool | None:
        return self.connection.eof_received()

    def pause_writing(self) -> None:
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        self.connection.resume_writing()


def reading_at_once(open_connection: Callable[..., asyncio.Protocol]) -> Callable[..., SharedBuffer]:
    """Opens connections as `open_connection` does, all of which read into one buffer."""
    buffer = memoryview(bytearray(READ_BYTES))
    return lambda *args, **kwargs: SharedBuffer(open_connection(*args, **kwargs), buffer)
