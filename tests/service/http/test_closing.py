"""Connections end although their clients do not take what was written to them."""

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.http.protocol import Connection
from service.settings import Settings
from service.stream.protocol import StreamProtocol

HANDSHAKE = (
    b"GET /stream/pain HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    b"Sec-WebSocket-Protocol: pkdot.v1\r\n\r\n"
)
PING = b"\x89\xfd" + bytes(4) + b"x" * 125
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize(
    ("hello", "protocol", "ask"),
    [(b"", Connection, PAGE), (HANDSHAKE, StreamProtocol, PING * 200)],
    ids=["HTTP", "stream"],
)
def test_a_client_that_leaves_the_end_of_what_it_asked_for_untaken_holds_no_service_that_stops(
    bundles_folder: Path,
    open_server: Callable[[Settings], AbstractContextManager[Any]],
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    hello: bytes,
    protocol: type,
    ask: bytes,
) -> None:
    monkeypatch.setattr("service.http.closing.UNREAD_S", 0.3)
    monkeypatch.setattr("service.stream.streams.HELLO_WITHIN_S", 120.0)
    with open_server(Settings(bundles=bundles_folder, port=0)) as live, socket.socket() as connection:
        connection.settimeout(20.0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", live.port))
        connection.sendall(hello)
        connections = live.server.server_state.connections
        eventually(lambda: [type(one) for one in connections] == [protocol])
        (taken,) = connections

        def is_full() -> bool:
            """So full that some stays here, and less than what makes the service wait for its client."""
            unsent = {taken.transport.get_write_buffer_size() for _ in range(5) if time.sleep(0.001) is None}
            if len(unsent) == 1 and unsent != {0}:
                return True
            connection.sendall(ask)
            return False

        eventually(is_full)
        live.server.should_exit = True
        eventually(lambda: not connections, within_s=25.0)
        assert not connections
