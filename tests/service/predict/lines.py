"""Answers as JSON lines: how tests ask for them, and decoders that wait where a test wants them to."""

import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest

from models.inputs.face.face import FaceObservation
from models.inputs.media import media
from models.inputs.media.media import Frame
from tests import loopback

LINES = {"accept": "application/x-ndjson"}


PAIN = "/predict/pain"


WAIT_S = 30.0


def lines_of(reply: httpx2.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.text.endswith("\n")
    return [json.loads(line) for line in reply.text.splitlines()]


def streamed(live: Any, video: bytes, headers: dict[str, str] = LINES, **fields: str) -> Any:
    """The answer of a real service, whose lines are read as they come."""
    url = f"http://127.0.0.1:{live.port}{PAIN}"
    return loopback.stream("POST", url, files={"video": video}, data=fields, headers=headers, timeout=60)


def gate_frames(monkeypatch: pytest.MonkeyPatch, gate: Callable[[float, Callable[[], None]], None]) -> None:
    """Where there is no sandbox: `gate(time_s, tick)` is called before the frame of each sampled time is given."""

    def frames_at(source: Any, times_s: Sequence[float], limits: Any, *, tick: Callable[[], None]) -> Iterator[Frame]:
        for time_s, frame in zip(times_s, media.frames_at(source, times_s, limits, tick=tick), strict=True):
            gate(time_s, tick)
            yield frame

    functions = {name: getattr(media, name) for name in ("probe", "sound_pieces", "decode_picture")}
    open_decoders(monkeypatch, lambda: SimpleNamespace(frames_at=frames_at, **functions))


def open_decoders(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> None:
    """Where there is no sandbox: each recording is decoded by what `make` gives."""

    @contextmanager
    def decoder(left_s: float) -> Iterator[Any]:  # noqa: ARG001 - as in_process
        yield make()

    monkeypatch.setattr("service.lifecycle.in_process", decoder)


class Tracker:
    """Sees a face everywhere, each with a crop that is known to be alive."""

    alive = peak = made = 0

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def step(self, time_s: float, rgb: np.ndarray, stretch: tuple[float, float]) -> tuple[FaceObservation, ...]:  # noqa: ARG002
        crop = np.full((112, 112, 3), 100, np.uint8)
        weakref.finalize(crop, self.died)
        Tracker.made += 1
        Tracker.alive += 1
        Tracker.peak = max(Tracker.peak, Tracker.alive)
        return (FaceObservation(0, time_s, (0, 0, 9, 9), 0.9, 0.0, 0.0, 0.0, 0.3, crop),)

    @staticmethod
    def died() -> None:
        Tracker.alive -= 1
