"""What a stream answers: the same as a recording of the same pictures and sound."""

import io
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import loopback

pytestmark = pytest.mark.usefixtures("all_pictures_wait")
VIDEO = {"fps": 10}
AUDIO = {"sample_rate": 16_000, "channels": 1}
OWN = {"type", "dropped_frames", "latency_ms"}
EPOCH_S = 1_700_000_000


def predict(port: int, task: str, **form: Any) -> dict[str, Any]:
    reply = loopback.post(f"http://127.0.0.1:{port}/predict/{task}", timeout=60, **form)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def assert_same(windows: list[dict[str, Any]], others: list[dict[str, Any]], within: float = 1e-4) -> None:
    """But for what the values owe to the size of the batch that they were computed in."""
    assert len(windows) == len(others)
    for window, other in zip(windows, others, strict=True):
        for name in window.keys() - OWN:
            assert numbers(window[name]) == pytest.approx(numbers(other[name]), abs=within), name
            assert words(window[name]) == words(other[name]), name


def numbers(value: Any) -> list[float]:
    """All numbers within an answer, in order."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def words(value: Any) -> Any:
    """An answer without its numbers."""
    if isinstance(value, dict):
        return {name: words(part) for name, part in value.items()}
    if isinstance(value, list):
        return [words(part) for part in value]
    return "number" if isinstance(value, int | float) else value


def wav(samples: NDArray[np.int16], rate_hz: int, channels: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(rate_hz)
        written.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize("begin_s", [0, EPOCH_S])
def test_pictures_are_answered_as_over_http(
    live: Any, talk: Callable[..., Any], face_jpegs: list[bytes], begin_s: int
) -> None:
    files = [("frames", (f"{n}.jpg", jpeg)) for n, jpeg in enumerate(face_jpegs)]
    expected = predict(live.port, "pain", files=files, data={"fps": "10", "hop_s": "0.5"})
    with talk(live.port, "pain", {"video": VIDEO, "hop_s": 0.5}) as client:
        ready = client.hear()
        for n, jpeg in enumerate(face_jpegs):
            client.picture(begin_s + n / 10, jpeg)
        windows, summary = client.end()

    assert (ready["type"], ready["api_version"], ready["window_s"], ready["hop_s"]) == ("ready", "1.0", 2.0, 0.5)
    assert ready["bundle"] == expected["bundle"]
    assert ready["levels"] == expected["levels"]
    assert ready["confidence_level"] == expected["confidence_level"]
    assert [window["start_s"] for window in windows] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert all(window["dropped_frames"] == 0 and window["latency_ms"] >= 0 for window in windows)
    assert_same(windows, expected["windows"])
    assert summary["summary"]["pain"]["expected"] == pytest.approx(expected["summary"]["pain"]["expected"], abs=1e-4)
    assert {name: summary[name] for name in ("faces", "modalities", "warnings")} == {
        name: expected[name] for name in ("faces", "modalities", "warnings")
    }
    assert summary["dropped_frames"] == 0


def test_sound_alone_is_answered_as_over_http(live: Any, talk: Callable[..., Any], speech: NDArray[np.int16]) -> None:
    expected = predict(live.port, "valence-arousal", files={"audio": wav(speech[:80_000], 16_000, 1)})
    with talk(live.port, "valence-arousal", {"audio": AUDIO}) as client:
        client.hear()
        for begin in range(0, 80_000, 1_600):
            client.sound(begin / 16_000, speech[begin : begin + 1_600])
        windows, _ = client.end()

    assert [window["observed"] for window in windows] == [["voice"]] * 3
    assert windows[0]["face_coverage"] is None
    assert_same(windows, expected["windows"])


def test_sound_of_another_rate_with_two_channels_is_answered_as_over_http(
    live: Any, talk: Callable[..., Any], speech: NDArray[np.int16]
) -> None:
    fine = np.interp(np.arange(3 * 44_100) / 44_100, np.arange(len(speech)) / 16_000, speech).astype(np.int16)
    stereo = np.stack([fine, fine // 2], axis=1)
    expected = predict(live.port, "valence-arousal", files={"audio": wav(stereo, 44_100, 2)})
    with talk(live.port, "valence-arousal", {"audio": {"sample_rate": 44_100, "channels": 2}}) as client:
        client.hear()
        for begin in range(0, len(stereo), 4_410):
            client.sound(begin / 44_100, stereo[begin : begin + 4_410])
        windows, _ = client.end()

    assert len(windows) == 2
    assert_same(windows, expected["windows"], within=1e-3)


def test_face_and_voice_are_answered_together(
    live: Any, talk: Callable[..., Any], face_jpegs: list[bytes], speech: NDArray[np.int16]
) -> None:
    with talk(live.port, "valence-arousal", {"video": VIDEO, "audio": AUDIO}) as client:
        client.hear()
        for n, jpeg in enumerate(face_jpegs):
            client.sound(n / 10, speech[n * 1_600 : (n + 1) * 1_600])
            client.picture(n / 10, jpeg)
        first = client.hear()
        client.end()

    assert (first["observed"], first["hallucinated"], first["reason"]) == (["face", "voice"], [], None)


def test_the_windows_go_on_without_a_kind_that_stops(
    live: Any, talk: Callable[..., Any], face_jpegs: list[bytes], speech: NDArray[np.int16]
) -> None:
    with talk(live.port, "valence-arousal", {"video": VIDEO, "audio": AUDIO}) as client:
        client.hear()
        for n, jpeg in enumerate(face_jpegs[:20]):
            client.picture(n / 10, jpeg)
        for begin in range(0, 96_000, 1_600):
            client.sound(begin / 16_000, speech[begin : begin + 1_600])
        windows = [client.hear(), client.hear()]
        client.end()

    assert [window["observed"] for window in windows] == [["face", "voice"], ["voice"]]
    assert windows[1]["face_coverage"] == pytest.approx(1 / 6)  # the last picture until 2.9 s; at 3.1 to 3.9 s none


def test_every_face_has_a_row(live: Any, talk: Callable[..., Any], clips: Path) -> None:
    group = (clips / "multi_face.jpg").read_bytes()
    with talk(live.port, "pain", {"video": VIDEO, "face": "all"}) as client:
        client.hear()
        for n in range(10):
            client.picture(n / 10, group)
        windows, summary = client.end()

    assert len(windows) > 1
    assert {window["start_s"] for window in windows} == {0.0}
    assert [window["face_id"] for window in windows] == [face["face_id"] for face in summary["faces"]]


def test_pictures_that_were_passed_over_are_told_once_for_all_faces(
    live: Any, talk: Callable[..., Any], clips: Path
) -> None:
    group = (clips / "multi_face.jpg").read_bytes()
    with talk(live.port, "pain", {"video": VIDEO, "face": "all"}) as client:
        client.hear()
        for time_s in (0.0, 0.1, 0.1, 0.1, 0.2, 0.2, *(n / 10 for n in range(3, 10))):
            client.picture(time_s, group)
        windows, summary = client.end()

    assert len(windows) > 1
    assert [window["dropped_frames"] for window in windows] == [3] + [0] * (len(windows) - 1)
    assert summary["dropped_frames"] == 3


def test_a_stream_without_media_has_no_windows(live: Any, talk: Callable[..., Any]) -> None:
    with talk(live.port, "pain", {"video": VIDEO}) as client:
        client.hear()
        windows, summary = client.end()

    assert windows == []
    assert summary["summary"] == {"windows": 0, "answered": 0, "pain": None}


def test_damaged_pictures_cost_only_their_window(
    live: Any,
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    face_jpegs: list[bytes],
    metrics: Callable[[int], dict[str, float]],
) -> None:
    with talk(live.port, "pain", {"video": VIDEO}) as client:
        client.hear()
        for n in range(45):
            client.picture(n / 10, face_jpegs[n % 20][: 200 if n < 20 else None])
        windows, _ = client.end()

    assert [window["reason"] for window in windows] == ["undecodable", None, None]
    eventually(lambda: metrics(live.port)["pkdot_streams"] == 0)
