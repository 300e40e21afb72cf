"""What is passed over where the service is too slow: shown with a decoder that waits until it is told to go on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

WAIT_S = 30.0
JPEG_HEAD = b"\xff\xd8\xff"


class SlowDecoder:
    """Every picture is black. Its first one takes until `go` is set; all that it decodes is written down."""

    def __init__(self) -> None:
        self.go, self.at_work = threading.Event(), threading.Event()
        self.decoded: list[int] = []

    def decode_picture(self, data: bytes, limits: Any) -> NDArray[np.uint8]:  # noqa: ARG002 - as a decoder's
        self.decoded.append(data[-1])
        self.at_work.set()
        assert self.go.wait(WAIT_S)
        return np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowDecoder:
    slow = SlowDecoder()

    @contextmanager
    def decoder(left_s: float) -> Iterator[Any]:  # noqa: ARG001 - as in_process
        yield SimpleNamespace(decode_picture=slow.decode_picture)

    monkeypatch.setattr("service.lifecycle.in_process", decoder)
    return slow


def numbered(number: int) -> bytes:
    return JPEG_HEAD + bytes([number])


def test_the_newest_pictures_win_and_the_others_are_counted(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    metrics: Callable[[int], dict[str, float]],
    slow: SlowDecoder,
) -> None:
    live = make_server(sandbox="off")
    with talk(live.port, "pain", {"video": {"fps": 10}}) as client:
        client.hear()
        for n in range(3):  # at 0.2 s it is known that the picture of 0.1 s is the one that the window samples there
            client.picture(n / 10, numbered(n))
        assert slow.at_work.wait(WAIT_S)
        for n in range(3, 23):
            client.picture(n / 10, numbered(n))
        eventually(lambda: metrics(live.port)["pkdot_stream_dropped_frames_total"] == 17)
        slow.go.set()
        windows, summary = client.end()

    # 20, 21 and 22 waited. What the window samples from 0.3 s on was passed over; 2 stands in for it.
    assert slow.decoded == [1, 2, 21, 22]
    assert [(window["start_s"], window["dropped_frames"]) for window in windows] == [(0.0, 17), (2.0, 0)]
    assert summary["dropped_frames"] == 17
    assert metrics(live.port)["pkdot_stream_dropped_frames_total"] == 17


def test_a_picture_that_is_no_later_than_the_one_before_is_passed_over(
    make_server: Callable[..., Any], talk: Callable[..., Any], slow: SlowDecoder
) -> None:
    live = make_server(sandbox="off")
    slow.go.set()
    with talk(live.port, "pain", {"video": {"fps": 10}}) as client:
        client.hear()
        for number, time_s in ((1, 0.0), (2, 0.0), (3, -0.0), (4, 0.15)):
            client.picture(time_s, numbered(number))
        _, summary = client.end()

    assert summary["dropped_frames"] == 2
    assert slow.decoded == [1, 4]


def test_sound_waits_for_a_slow_picture_and_none_is_lost(
    make_server: Callable[..., Any], talk: Callable[..., Any], slow: SlowDecoder, speech: NDArray[np.int16]
) -> None:
    live = make_server(sandbox="off")
    with talk(live.port, "valence-arousal", {"audio": {"sample_rate": 16_000, "channels": 1}}) as client:
        client.hear()
        client.sound(0, speech[:64_000])
        expected, _ = client.end()
    both = {"video": {"fps": 10}, "audio": {"sample_rate": 16_000, "channels": 1}}
    with talk(live.port, "valence-arousal", both) as client:
        client.hear()
        for n in range(3):
            client.picture(n / 10, numbered(n))
        assert slow.at_work.wait(WAIT_S)
        for begin in range(0, 64_000, 1_600):
            client.sound(begin / 16_000, speech[begin : begin + 1_600])
        slow.go.set()
        windows, _ = client.end()

    assert [window["observed"] for window in windows] == [["voice"], ["voice"]]
    assert [window["valence"] for window in windows] == [window["valence"] for window in expected]


def test_more_sound_than_may_wait_ends_the_stream(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    slow: SlowDecoder,
    speech: NDArray[np.int16],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.stream.mailbox.SOUND_WAITING_BYTES", 10_000)
    live = make_server(sandbox="off")
    both = {"video": {"fps": 10}, "audio": {"sample_rate": 16_000, "channels": 1}}
    with talk(live.port, "valence-arousal", both) as client:
        client.hear()
        for n in range(3):
            client.picture(n / 10, numbered(n))
        assert slow.at_work.wait(WAIT_S)
        for begin in range(0, 16_000, 1_600):
            client.sound(begin / 16_000, speech[begin : begin + 1_600])
        slow.go.set()
        heard, code = client.hear_all()

    assert (heard[-1]["problem"]["code"], code) == ("overloaded", 4503)
