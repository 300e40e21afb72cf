"""Apps with the bundles of pain and valence-arousal."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.channel import Channel
from service.settings import Settings

Open = Callable[[Settings], AbstractContextManager[Any]]


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
