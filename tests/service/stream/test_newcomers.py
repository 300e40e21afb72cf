"""Silent clients, and that they keep nobody out."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.access.keys import new_key
from service.errors import Overloaded
from service.stream.newcomers import Newcomers

Timeless = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
VIDEO = {"video": {"fps": 10}}
LATE_S = 5.0


async def said_after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "hello"


class Doorway:
    """Clients of a test, and when each was done with waiting, and how."""

    def __init__(self, room: int) -> None:
        self.newcomers = Newcomers(room)
        self.ends: dict[str, tuple[float, str]] = {}

    async def come(self, name: str, address: str, says_after_s: float) -> None:
        try:
            end = await self.newcomers.hear(said_after(says_after_s), address, LATE_S)
        except (TimeoutError, Overloaded) as error:
            end = type(error).__name__
        self.ends[name] = (asyncio.get_running_loop().time(), end)


def test_the_oldest_silent_client_of_the_most_crowded_address_makes_room(timeless: Timeless) -> None:
    async def check() -> None:
        door = Doorway(3)
        comers = [("quiet", "a", 9.0), ("first", "b", 9.0), ("second", "b", 9.0), ("late", "c", 0.5), ("own", "b", 0.5)]
        tasks = []
        for comer in comers:  # one a second
            tasks.append(asyncio.create_task(door.come(*comer)))
            await asyncio.sleep(1)
        await asyncio.gather(*tasks)

        assert door.ends == {
            "first": (3.0, "Overloaded"),
            "late": (3.5, "hello"),
            "own": (4.5, "hello"),
            "quiet": (5.0, "TimeoutError"),
            "second": (7.0, "TimeoutError"),
        }
        assert door.newcomers.waiting == {}

    timeless(check)


def test_of_equally_crowded_addresses_the_oldest_client_makes_room(timeless: Timeless) -> None:
    async def check() -> None:
        door = Doorway(2)
        tasks = [asyncio.create_task(door.come(name, name, 1.0)) for name in "abc"]
        await asyncio.gather(*tasks)
        assert door.ends == {"a": (0.0, "Overloaded"), "b": (1.0, "hello"), "c": (1.0, "hello")}

    timeless(check)


def test_who_leaves_or_is_cancelled_waits_no_more(timeless: Timeless) -> None:
    async def check() -> None:
        newcomers = Newcomers(1)
        waiting = asyncio.create_task(newcomers.hear(said_after(9.0), "a", LATE_S))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert newcomers.waiting == {}

    timeless(check)


@pytest.fixture
def token_and_file(tmp_path: Path) -> tuple[str, Path]:
    token, key = new_key("ward-7", 4)
    file = tmp_path / "keys.txt"
    file.write_text(key.line() + "\n", encoding="utf-8")
    return token, file


def test_silent_sockets_without_a_key_keep_no_holder_of_a_key_out(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    metrics: Callable[[int], dict[str, float]],
    token_and_file: tuple[str, Path],
) -> None:
    token, file = token_and_file
    live = make_server(api_keys_file=file, max_streams=1)
    with ExitStack() as stack:
        silent = [stack.enter_context(talk(live.port, "pain")) for _ in range(8)]
        assert metrics(live.port)["pkdot_streams"] == 0
        with talk(live.port, "pain", VIDEO | {"token": token}) as client:
            assert client.hear()["type"] == "ready"
            assert metrics(live.port)["pkdot_streams"] == 1
            with talk(live.port, "pain", VIDEO | {"token": token}) as second:
                (refused,), code = second.hear_all()
            assert (refused["problem"]["code"], code) == ("overloaded", 4503)
            with talk(live.port, "pain", VIDEO | {"token": "pk-wrong"}) as stranger:
                (refused,), code = stranger.hear_all()
            assert (refused["problem"]["code"], code) == ("unauthenticated", 4401)
            client.end()
        (heard,), code = silent[0].hear_all()

    assert (heard["problem"]["status"], heard["problem"]["code"], code) == (503, "overloaded", 4503)
    assert "yet to say hello" in heard["problem"]["detail"]


def test_silent_sockets_are_bounded_and_a_place_is_free_again_after_each_refusal(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    token_and_file: tuple[str, Path],
) -> None:
    token, file = token_and_file
    live = make_server(api_keys_file=file, max_streams=1)
    waiting = live.server.streams.newcomers.waiting
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(talk(live.port, "pain"))
        eventually(lambda: len(waiting) == 4)
    eventually(lambda: not waiting)

    for wrong in ({"token": None}, {"token": token, "bundle": "nobody"}, {"token": token, "hop_s": 0}):
        with talk(live.port, "pain", VIDEO | wrong) as client:
            assert client.hear_all()[1] in {4401, 4422}
    with talk(live.port, "pain", VIDEO | {"token": token}) as client:
        assert client.hear()["type"] == "ready"
