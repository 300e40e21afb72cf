"""A body that comes in small parts wakes the app once; one that is slow, or large, is given on as it comes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.http.protocol import Connection
from service.http.shared_buffer import READ_BYTES

Message = dict[str, Any]
HANG_S = 60.0


class Transport(asyncio.Transport):
    """Takes what is written, and reads nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - the signature of a transport
        return default

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: object) -> None:
        pass

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class NoWay:
    """Every request is the app's."""

    def takes(self, _: object) -> bool:
        return False

    def set_out(self, *_: object) -> None:
        raise AssertionError("takes none")


def play(size: int, scene: Callable[[Callable[[bytes], None], "asyncio.Queue[Message]"], Awaitable[None]]) -> None:
    """Run a scene with what sends parts of a body of `size` bytes, and with the messages that the app gets of it."""

    async def run() -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()

        async def app(
            _: object, receive: Callable[[], Awaitable[Message]], send: Callable[..., Awaitable[None]]
        ) -> None:
            more = True
            while more:
                message = await receive()
                messages.put_nowait(message)
                more = message.get("more_body", False)
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

        protocol = Connection(
            config=uvicorn.Config(app, log_config=None),  # type: ignore[arg-type]  # an app in the least words
            server_state=ServerState(),
            app_state={},
            gate=lambda _: None,
            express=NoWay(),
        )
        protocol.connection_made(Transport())
        protocol.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        await asyncio.sleep(0)
        async with asyncio.timeout(HANG_S):
            await scene(protocol.data_received, messages)
        protocol.connection_lost(None)

    asyncio.run(run())


def test_parts_that_come_together_are_one_message(monkeypatch):
    monkeypatch.setattr("service.http.protocol.GATHER_S", 2 * HANG_S)

    async def scene(send: Callable[[bytes], None], messages: "asyncio.Queue[Message]") -> None:
        for part in (b"ab", b"cd", b"ef"):
            send(part)
            await asyncio.sleep(0)
            assert messages.empty() or part == b"ef"
        assert await messages.get() == {"type": "http.request", "body": b"abcdef", "more_body": False}

    play(6, scene)


def test_what_waits_for_the_rest_is_given_on_soon():
    async def scene(send: Callable[[bytes], None], messages: "asyncio.Queue[Message]") -> None:
        send(b"ab")
        assert await messages.get() == {"type": "http.request", "body": b"ab", "more_body": True}
        send(b"cd")
        assert await messages.get() == {"type": "http.request", "body": b"cd", "more_body": False}

    play(4, scene)


@pytest.mark.parametrize("parts", [1, 3])
def test_more_than_the_buffer_holds_is_given_on_at_once(parts, monkeypatch):
    monkeypatch.setattr("service.http.protocol.GATHER_S", 2 * HANG_S)

    async def scene(send: Callable[[bytes], None], messages: "asyncio.Queue[Message]") -> None:
        for _ in range(parts):
            send(bytes(READ_BYTES // parts + 1))
        message = await messages.get()
        assert len(message["body"]) == parts * (READ_BYTES // parts + 1)
        assert message["more_body"] is True

    play(2 * READ_BYTES, scene)
