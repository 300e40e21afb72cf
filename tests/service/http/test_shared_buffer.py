"""Connections read into one buffer, whichever event loop serves them."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service.http.shared_buffer import READ_BYTES, reading_at_once

HANG_S = 60.0


class Listener(asyncio.Protocol):
    """Keeps what it is given, and says how each part came."""

    def __init__(self, parts: list[tuple[type, bytes]], events: list[str], ended: asyncio.Event) -> None:
        self.parts, self.events, self.ended = parts, events, ended

    def connection_made(self, transport: Any) -> None:  # uvloop's transports are of no class of asyncio's
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.parts.append((type(data), bytes(data)))

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.transport.write(b"seen")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {exc}")
        self.ended.set()


def event_loops() -> list[Any]:
    if sys.platform == "win32":  # there is no uvloop
        return [asyncio.run]
    import uvloop

    return [asyncio.run, uvloop.run]


@pytest.mark.parametrize("run", event_loops(), ids=lambda run: run.__module__)
def test_every_loop_reads_into_the_buffer_and_tells_the_connection_all(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    sent = [bytes([n % 251]) * (READ_BYTES // 2 + n) for n in range(8)]
    parts: list[list[tuple[type, bytes]]] = [[], []]
    events: list[list[str]] = [[], []]

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        ended = [asyncio.Event(), asyncio.Event()]
        opened = iter(zip(parts, events, ended, strict=True))
        server = await loop.create_server(reading_at_once(lambda: Listener(*next(opened))), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, asyncio.timeout(HANG_S):
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for place, piece in enumerate(sent):  # in turns, so that one overwrites what the other has read
                writer = clients[place % 2][1]
                writer.write(piece)
                await writer.drain()
            for reader, writer in clients:
                writer.write_eof()
                assert await reader.read() == b"seen"
                writer.close()
                await writer.wait_closed()
            for end in ended:
                await end.wait()

    run(serve())

    for place in range(2):
        assert b"".join(data for _, data in parts[place]) == b"".join(sent[place::2])
        assert {kind for kind, _ in parts[place]} == {memoryview}
        assert events[place] == ["made", "eof", "lost None"]
