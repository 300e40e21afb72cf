"""Real apps: through Starlette's client, and behind uvicorn on a free port of the loopback."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.server import Server
from service.settings import Settings
from service.threads.channel import Channel

READY_TIMEOUT_S = 120.0

Open = Callable[[Settings], AbstractContextManager[Any]]


class LiveServer(NamedTuple):
    """A service behind a real socket."""

    server: Server
    port: int


@contextmanager
def opened_client(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings)
    with TestClient(app) as client:
        wait_until(lambda: app.state.lifecycle.status() == "ok")  # to ask for it again and again takes a core
        assert client.get("/health/ready").status_code == 200
        yield client


@contextmanager
def opened_server(settings: Settings) -> Iterator[LiveServer]:
    ports: list[int] = []
    server = Server(create_app(settings), settings, ports.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: bool(ports))
        yield LiveServer(server, ports[0])
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], bool], within_s: float = READY_TIMEOUT_S) -> None:
    begin_s = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - begin_s
        assert waited_s < within_s, "did not happen in time"
        time.sleep(min(max(0.01, waited_s / 20), 0.1))  # asked less often the longer it takes: a condition costs, too


@pytest.fixture(scope="session")
def open_client() -> Callable[[Settings], AbstractContextManager[TestClient]]:
    """`open_client(settings)`: a ready app, for as long as the block lasts."""
    return opened_client


@pytest.fixture(scope="session")
def open_server() -> Callable[[Settings], AbstractContextManager[LiveServer]]:
    """`open_server(settings)`: a ready app behind uvicorn, for as long as the block lasts."""
    return opened_server


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """`eventually(condition, within_s=…)`: wait until it holds; fails after a while."""
    return wait_until


@pytest.fixture(scope="session")
def face_clip(clips: Path) -> bytes:
    return (clips / "single_face.mp4").read_bytes()


@pytest.fixture(scope="session")
def client(bundles_folder: Path, open_client: Open) -> Iterator[TestClient]:
    """An app with default settings, ready; shared by tests that leave it as it is."""
    with open_client(Settings(bundles=bundles_folder)) as client:
        yield client


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a decoder's thread has been told that nobody waits for it."""
    told, abandon = threading.Event(), Channel.abandon

    def watched(channel: Channel[Any]) -> None:
        abandon(channel)
        told.set()

    monkeypatch.setattr(Channel, "abandon", watched)
    return told


@pytest.fixture
def make_client(bundles_folder: Path, open_client: Open) -> Iterator[Callable[..., TestClient]]:
    """`make_client(max_upload_bytes=…)`: a ready app of its own."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(
            open_client(Settings.model_validate({"bundles": bundles_folder} | values))
        )


@pytest.fixture
def make_server(bundles_folder: Path, open_server: Open) -> Iterator[Callable[..., Any]]:
    """`make_server(drain_s=…)`: a ready app behind uvicorn."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(
            open_server(Settings.model_validate({"bundles": bundles_folder, "port": 0} | values))
        )


class TimelessLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer as soon as nothing else is to do: nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout_s: float | None) -> Any:
            assert timeout_s is not None, "everything waits, for nothing"
            self.now_s += timeout_s
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s


def run_timeless(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the test on such a loop; what nobody has seen of an exception is a failure too."""
    unseen: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, told: unseen.append(told))
        runner.run(test())
    assert unseen == []


@pytest.fixture(scope="session")
def timeless() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """`timeless(test)`: run a coroutine function on an event loop whose clock waits for nobody."""
    return run_timeless
