"""Real apps with real bundles: through Starlette's client, and behind uvicorn on a free port of the loopback."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.server import Server
from service.settings import Settings

READY_TIMEOUT_S = 30.0


class LiveServer(NamedTuple):
    """A service behind a real socket."""

    server: Server
    port: int


@pytest.fixture(scope="session")
def face_clip(clips: Path) -> bytes:
    return (clips / "single_face.mp4").read_bytes()


@pytest.fixture(scope="session")
def client(bundles_folder: Path) -> Iterator[TestClient]:
    """An app with default settings, ready; shared by tests that leave it as it is."""
    with TestClient(create_app(Settings(bundles=bundles_folder))) as client:
        yield until_ready(client)


@pytest.fixture
def make_client(bundles_folder: Path) -> Iterator[Callable[..., TestClient]]:
    """`make_client(max_upload_bytes=…)`: a ready app of its own."""
    with ExitStack() as stack:

        def make(**values: Any) -> TestClient:
            app = create_app(Settings.model_validate({"bundles": bundles_folder} | values))
            return until_ready(stack.enter_context(TestClient(app)))

        yield make


@pytest.fixture
def make_server(bundles_folder: Path) -> Iterator[Callable[..., LiveServer]]:
    """`make_server(drain_s=…)`: a ready app behind uvicorn."""
    with ExitStack() as stack:

        def make(**values: Any) -> LiveServer:
            settings = Settings.model_validate({"bundles": bundles_folder, "port": 0} | values)
            ports: list[int] = []
            server = Server(create_app(settings), settings, ports.append)
            thread = threading.Thread(target=server.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            wait_until(lambda: bool(ports))
            return LiveServer(server, ports[0])

        yield make


def until_ready(client: TestClient) -> TestClient:
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    return client


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds; fails after a while."""
    return wait_until
