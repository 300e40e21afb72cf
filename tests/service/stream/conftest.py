"""Clients of streams over real sockets, and media to send."""

import contextlib
import io
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service.settings import Settings
from tests import loopback

WAIT_S = 30.0


class Talk:
    """One client's stream."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def picture(self, time_s: float, jpeg: bytes) -> None:
        self.media(1, time_s, jpeg)

    def sound(self, time_s: float, samples: NDArray[np.int16]) -> None:
        self.media(2, time_s, samples.astype("<i2").tobytes())

    def media(self, kind: int, time_s: float, payload: bytes) -> None:
        self.socket.send(struct.pack("<BQ", kind, round(1e6 * time_s)) + payload)

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(WAIT_S))
        return message

    def hear_all(self) -> tuple[list[dict[str, Any]], int]:
        """Every message until the service closes, and the code that it closes with."""
        heard = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(self.hear())
        code = self.socket.close_code
        assert code is not None
        return heard, code

    def end(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The windows that are left, and the summary."""
        self.say(type="end")
        heard, code = self.hear_all()
        assert (code, heard[-1]["type"]) == (1000, "summary"), heard[-1]
        return [message for message in heard if message["type"] == "window"], heard[-1]


@contextmanager
def opened_talk(port: int, task: str = "pain", hello: dict[str, Any] | None = None, **options: Any) -> Iterator[Talk]:
    url = f"ws://127.0.0.1:{port}/stream/{task}"
    given = {
        "subprotocols": ["pkdot.v1"],
        "proxy": None,
        "max_size": None,
        "close_timeout": 1,
        "open_timeout": 60,
    } | options
    with connect(url, **given) as socket:
        talk = Talk(socket)
        with contextlib.suppress(ConnectionClosed):  # who is refused at once may learn it here; `hear` tells
            if hello is not None:
                talk.say(type="hello", **hello)
        yield talk


@pytest.fixture(scope="session")
def talk() -> Callable[..., AbstractContextManager[Talk]]:
    """`talk(port, task, hello)`: a client that has said hello, where there is one to say."""
    return opened_talk


@pytest.fixture
def make_server(
    bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]
) -> Iterator[Callable[..., Any]]:
    """`make_server(max_streams=…)`: a ready app behind uvicorn."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(
            open_server(Settings.model_validate({"bundles": bundles_folder, "port": 0} | values))
        )


@pytest.fixture(scope="session")
def live(bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A service with default settings; shared by tests that leave it as it is."""
    with open_server(Settings.model_validate({"bundles": bundles_folder, "port": 0})) as live:
        yield live


def read_metrics(port: int) -> dict[str, float]:
    lines = loopback.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


@pytest.fixture(scope="session")
def metrics() -> Callable[[int], dict[str, float]]:
    """`metrics(port)`: what /metrics says, by series."""
    return read_metrics


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.height, stream.width = rgb.shape[:2]
        stream.pix_fmt = "yuvj444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="session")
def face_jpegs(clips: Path) -> list[bytes]:
    """The clip's first 2.4 s, ten pictures a second."""
    with av.open(str(clips / "single_face.mp4")) as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate or 25)
    return [encode_jpeg(frames[round(n * rate / 10)]) for n in range(24)]


@pytest.fixture(scope="session")
def speech() -> NDArray[np.int16]:
    """Like a voice: 6 s of a rough tone of 140 Hz with harmonics, at 16 kHz."""
    time_s = np.arange(6 * 16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 140 * n * time_s) / n for n in range(1, 20))
    return np.asarray(6000 * tone * (1 + 0.5 * np.sin(2 * np.pi * 3 * time_s)) / 2, np.int16)


@pytest.fixture(autouse=True)
def nobody_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may hold up a client before its hello, or a window, for seconds."""
    monkeypatch.setattr("service.stream.streams.HELLO_WITHIN_S", 60.0)
    monkeypatch.setattr("service.stream.session.MIN_WINDOW_TIMEOUT_S", 60.0)


@pytest.fixture
def all_pictures_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is passed over, however fast they are sent."""
    monkeypatch.setattr("service.stream.mailbox.PICTURES_WAITING", 10_000)
