"""Every row of the contract's table of errors, through a real app."""

import io
import re
import resource
import struct
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from service.app import create_app
from service.runtime.runner import GraphRunner
from service.settings import Settings

URL = "/predict/pain"
BOTH = "/predict/valence-arousal"


def outcome(reply: Response) -> tuple[int, str]:
    """Status and code of a problem that is complete and gives nothing away."""
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(problem)
    assert problem["status"] == reply.status_code
    assert reply.headers["x-request-id"] in problem["instance"]
    assert not re.search(r"Traceback|/tmp|/home|\.py\b", reply.text)
    return reply.status_code, problem["code"]


def bad_fields(reply: Response) -> list[str]:
    assert outcome(reply) == (422, "invalid_field")
    return [error["field"] for error in reply.json()["errors"]]


def sound(seconds: float, level: int = 0) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        up, down = (value.to_bytes(2, "little", signed=True) for value in (level, -level))
        out.writeframes((16 * up + 16 * down) * round(500 * seconds))  # a square wave of 500 Hz
    return file.getvalue()


def test_nothing_at_an_unknown_address(client: TestClient) -> None:
    assert outcome(client.get("/nothing")) == (404, "not_found")


def test_another_method_is_told_which_one_is_answered(client: TestClient) -> None:
    reply = client.get(URL)

    assert outcome(reply) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/models"])
def test_what_answers_probes_says_that_it_answers_head(client: TestClient, path: str) -> None:
    reply = client.post(path)

    assert outcome(reply) == (405, "method_not_allowed")
    assert reply.headers.get_list("allow") == ["GET, HEAD"]
    assert reply.json()["detail"] == "POST is not answered here; accepted is GET, HEAD"


def test_a_body_that_is_not_multipart_is_unsupported(client: TestClient) -> None:
    assert outcome(client.post(URL, json={"video": "…"})) == (415, "unsupported_media")
    assert outcome(client.post(URL)) == (415, "unsupported_media")


def test_a_body_without_its_last_boundary_is_malformed(client: TestClient) -> None:
    whole = client.build_request("POST", URL, files={"video": b"x" * 100})
    cut = whole.read()[:-20]
    reply = client.post(URL, content=cut, headers={"content-type": whole.headers["content-type"]})

    assert outcome(reply) == (400, "malformed_request")


def test_a_content_that_is_no_recording_is_unsupported(client: TestClient) -> None:
    assert outcome(client.post(URL, files={"video": b"hello " * 100})) == (415, "unsupported_media")


def test_a_damaged_recording_is_unreadable(client: TestClient, face_clip: bytes) -> None:
    assert outcome(client.post(URL, files={"video": face_clip[:4000]})) == (422, "unreadable_media")


def test_uploads_over_the_limit_get_413(make_client: Callable[..., TestClient]) -> None:
    reply = make_client(max_upload_bytes=1000).post(URL, files={"video": b"x" * 2000})

    assert outcome(reply) == (413, "too_large")
    assert "1000 bytes" in reply.json()["detail"]


def test_chunked_uploads_are_cut_at_the_limit(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_upload_bytes=1000)
    whole = client.build_request("POST", URL, files={"video": b"x" * 2000})

    def chunks() -> Iterator[bytes]:
        yield from (whole.read()[:900], whole.read()[900:])

    reply = client.post(URL, content=chunks(), headers={"content-type": whole.headers["content-type"]})
    assert "content-length" not in reply.request.headers
    assert outcome(reply) == (413, "too_large")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"max_pixels": 640 * 360 - 1}, (413, "too_large")),
        ({"max_frames": 71}, (413, "too_large")),
        ({"max_duration_s": 2.0}, (422, "too_long")),
        ({"max_windows": 1}, (413, "too_large")),
    ],
)
def test_recordings_over_a_limit_are_refused(
    make_client: Callable[..., TestClient], face_clip: bytes, limit: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert outcome(make_client(**limit).post(URL, files={"video": face_clip})) == expected


def test_more_parts_than_any_form_needs_are_refused(make_client: Callable[..., TestClient]) -> None:
    reply = make_client(max_frames=2).post(URL, files=[("frames", b"x")] * 80)

    assert outcome(reply) == (413, "too_large")


def test_pictures_that_last_too_long_are_refused(client: TestClient, clips: Path) -> None:
    picture = (clips / "single_face.jpg").read_bytes()
    reply = client.post(URL, files=[("frames", picture)] * 2, data={"fps": "0.001"})

    assert outcome(reply) == (422, "too_long")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ["video"]),
        ({"video": b"x", "frames": b"x"}, ["frames"]),
        ({"video": b"x", "fps": "25"}, ["fps"]),
        ({"frames": b"x", "fps": "0"}, ["fps"]),
        ({"frames": b"x", "fps": "nan"}, ["fps"]),
        ({"frames": b"x", "fps": "241"}, ["fps"]),
        ({"video": b""}, ["video"]),
        ({"video": b"x", "start_s": "-1"}, ["start_s"]),
        ({"video": b"x", "start_s": "inf"}, ["start_s"]),
        ({"video": b"x", "end_s": "two"}, ["end_s"]),
        ({"video": b"x", "start_s": "3", "end_s": "2"}, ["end_s"]),
        ({"video": b"x", "hop_s": "0"}, ["hop_s"]),
        ({"video": b"x", "bundle": "nobody"}, ["bundle"]),
        ({"video": b"x", "bundle": "affect-test"}, ["bundle"]),
        ({"video": b"x", "face": "smallest"}, ["face"]),
        ({"video": b"x", "detail": "everything"}, ["detail"]),
        ({"video": b"x", "audio": b"x"}, ["audio"]),
        ({"video": b"x", "speed": "2"}, ["speed"]),
        ({"video": b"x", "bundle": "x" * 2000}, ["bundle"]),
        (
            {"video": b"x", "speed": "2", "hop_s": "-1", "start_s": "a", "face": ""},
            ["speed", "start_s", "hop_s", "face"],
        ),
    ],
)
def test_bad_fields_are_all_named(client: TestClient, fields: dict[str, str | bytes], named: list[str]) -> None:
    parts = [(name, (None, value)) for name, value in fields.items()] or [("", (None, b""))]
    reply = client.post(URL, files=parts)

    assert [field for field in bad_fields(reply) if field] == named


def test_a_field_that_comes_twice_is_refused(client: TestClient) -> None:
    assert bad_fields(client.post(URL, files=[("video", b"x"), ("video", b"x")])) == ["video"]
    twice = [("video", (None, b"x")), ("hop_s", (None, b"1")), ("hop_s", (None, b"2"))]
    assert bad_fields(client.post(URL, files=twice)) == ["hop_s"]


def test_pictures_belong_to_pain_only(client: TestClient) -> None:
    reply = client.post(BOTH, files={"frames": b"x"}, data={"fps": "25"})

    assert sorted(bad_fields(reply)) == ["fps", "frames", "video"]


def test_a_start_beyond_the_end_is_a_bad_field(client: TestClient, face_clip: bytes) -> None:
    reply = client.post(URL, files={"video": face_clip}, data={"start_s": "100"})

    assert bad_fields(reply) == ["start_s"]
    assert re.fullmatch(
        r"start_s: is 100, but the recording ends at \d\.\d{3} s; begin before that", reply.json()["detail"]
    )


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_must_be_a_number_over_zero(client: TestClient, value: str) -> None:
    reply = client.post(URL, files={"video": b"x"}, headers={"x-request-timeout": value})

    assert bad_fields(reply) == ["X-Request-Timeout"]


def test_a_task_without_a_bundle_is_refused(make_client: Callable[..., TestClient], pain_bundle: Path) -> None:
    client = make_client(bundles=pain_bundle)

    assert bad_fields(client.post(BOTH, files={"video": b"x"})) == ["bundle"]


def test_a_tenth_of_a_second_of_sound_is_too_short(client: TestClient) -> None:
    assert outcome(client.post(BOTH, files={"audio": sound(0.1, 9000)})) == (422, "too_short")


def test_silence_has_no_usable_modality(client: TestClient) -> None:
    assert outcome(client.post(BOTH, files={"audio": sound(3.0)})) == (422, "no_usable_modality")


def test_a_picture_without_face_and_without_sound_has_no_face(client: TestClient) -> None:
    # a grey picture, 64 x 64, as PNG: signature, IHDR, IDAT of zlib-packed rows, IEND
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x80" * 64) * 64)
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    assert outcome(client.post(BOTH, files={"video": png})) == (422, "no_face")
    assert outcome(client.post(URL, files={"frames": png})) == (422, "no_face")


def test_sound_alone_has_no_pain(client: TestClient) -> None:
    assert outcome(client.post(URL, files={"video": sound(3.0, 9000)})) == (422, "no_face")


def test_too_little_time_is_a_504_and_everything_is_given_back(
    make_client: Callable[..., TestClient], clips: Path
) -> None:
    client = make_client()
    video = (clips / "face_noface.mov").read_bytes()
    reply = client.post(URL, files={"video": video}, headers={"x-request-timeout": "0.15"})

    assert outcome(reply) == (504, "deadline_exceeded")
    admission = client.app.state.lifecycle.resources.admission  # type: ignore[attr-defined]
    assert (admission.at_work, admission.spool_bytes) == (0, 0)
    assert client.post(URL, files={"video": video}).status_code == 200


def test_a_long_number_is_refused_at_once(client: TestClient) -> None:
    # a pattern that tries every way to split the digits would be at it for minutes
    reply = client.post(URL, headers={"X-Request-Timeout": "1" * 60_000 + "x"}, files={"video": b"x"})

    assert bad_fields(reply) == ["X-Request-Timeout"]


def test_a_path_cannot_forge_a_line_of_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "pkdot.requests"):
        client.get("/x%0aPOST%20/predict/pain%20200")

    assert caplog.messages[-1].startswith("GET /x%0APOST%20/predict/pain%20200 404 not_found")


def test_a_modality_that_no_graph_takes_is_422(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    shelf = client.app.state.lifecycle.resources.shelf  # type: ignore[attr-defined]
    affect = shelf.find("valence-arousal")
    manifest = affect.bundle.manifest
    alone = manifest.model_copy(update={"graphs": tuple(g for g in manifest.graphs if g.available == ("face",))})
    object.__setattr__(affect.bundle, "manifest", alone)

    reply = client.post(BOTH, files={"audio": sound(2, level=9000)})

    assert outcome(reply) == (422, "no_usable_modality")
    assert "the recording holds voice; bundle affect-test needs face" in reply.json()["detail"]


def test_a_lost_device_is_503_and_the_end_of_this_replica(
    make_client: Callable[..., TestClient], face_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()

    def lost(*_: object) -> NoReturn:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(GraphRunner, "run_checked", lost)

    assert outcome(client.post(URL, files={"video": face_clip})) == (503, "not_ready")
    assert client.get("/health/ready").json() == {"status": "failed"}
    assert client.get("/health/live").status_code == 503


def test_what_only_one_recording_does_to_a_graph_is_its_own_422(
    make_client: Callable[..., TestClient], face_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    golden = [array for _, array in _golden_faces(client)]
    whole = GraphRunner.run_checked

    def picky(runner: GraphRunner, inputs: Mapping[str, np.ndarray], *_: object) -> np.ndarray:
        if not any(np.array_equal(inputs["face"][0], known) for known in golden):
            raise RuntimeError("an input that this graph cannot take")
        return np.asarray(whole(runner, inputs))

    monkeypatch.setattr(GraphRunner, "run_checked", picky)

    assert outcome(client.post(URL, files={"video": face_clip})) == (422, "unreadable_media")
    assert client.get("/health/ready").status_code == 200


def _golden_faces(client: TestClient) -> list[tuple[str, np.ndarray]]:
    bundle = client.app.state.lifecycle.resources.shelf.find("pain").bundle  # type: ignore[attr-defined]
    return [("face", array) for array in bundle.golden(bundle.manifest.graphs[0])[0]["face"]]


def test_bundles_that_cannot_serve_are_not_ready(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(bundles=tmp_path))) as client:
        while client.get("/health/ready").json()["status"] == "starting":
            pass
        assert client.get("/health/ready").json() == {"status": "failed"}
        assert client.get("/health/live").status_code == 503
        assert outcome(client.post(URL, files={"video": b"x"})) == (503, "not_ready")


def test_a_spool_folder_that_cannot_be_written_is_found_at_the_start(bundles_folder: Path, tmp_path: Path) -> None:
    settings = Settings(bundles=bundles_folder, spool_dir=tmp_path / "missing")

    with TestClient(create_app(settings)) as client:
        while client.get("/health/ready").json()["status"] == "starting":
            pass
        assert client.get("/health/ready").json() == {"status": "failed"}
        assert "PKDOT_SPOOL_DIR" in str(client.app.state.lifecycle.failure)  # type: ignore[attr-defined]


def test_a_queue_beyond_the_deadline_is_refused_at_the_headers(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    decoders = client.app.state.lifecycle.resources.pipeline.decoders  # type: ignore[attr-defined]
    for _ in range(decoders.count):  # all are taken, and the next one waits for eight seconds
        decoders.unfinished[decoders.cores.share()] = None
    decoders.recent_s.append(8.0 * decoders.count)
    reply = client.post(URL, files={"video": b"x"}, headers={"x-request-timeout": "5"})

    assert outcome(reply) == (504, "deadline_exceeded")
    assert "8.00 s" in reply.json()["detail"]


def test_a_deadline_that_has_passed_leaves_no_negative_time(client: TestClient) -> None:
    reply = client.post(URL, files={"video": b"x"}, headers={"x-request-timeout": "5e-324"})

    assert outcome(reply) == (504, "deadline_exceeded")
    assert "-" not in reply.json()["detail"].replace("X-Request-Timeout", "")


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_is_a_507(make_client: Callable[..., TestClient]) -> None:
    client = make_client(spool_memory_bytes=10_000)
    with largest_file(100_000):
        reply = client.post(URL, files={"video": b"x" * 200_000})

    assert outcome(reply) == (507, "spool_full")
    assert client.app.state.lifecycle.resources.admission.spool_bytes == 0  # type: ignore[attr-defined]


def test_a_folder_for_uploads_that_is_gone_is_a_503_and_logged(
    make_client: Callable[..., TestClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    client = make_client(spool_memory_bytes=10_000, spool_dir=folder)
    folder.rmdir()
    reply = client.post(URL, files={"video": b"x" * 200_000})

    assert outcome(reply) == (503, "not_ready")
    assert str(folder) not in reply.text
    assert f"uploads cannot be written to {folder}: No such file or directory" in caplog.text
    assert client.app.state.lifecycle.resources.admission.spool_bytes == 0  # type: ignore[attr-defined]


def test_a_bug_is_a_500_that_gives_nothing_away(
    make_client: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(spool_memory_bytes=0)
    client.app.state.lifecycle.resources.threads.shutdown()  # type: ignore[attr-defined]
    reply = client.post(URL, files={"video": b"x"}, headers={"x-request-id": "find-me"})

    assert outcome(reply) == (500, "internal")
    assert "find-me" in caplog.text
    assert "Traceback" in caplog.text
    assert 'pkdot_requests_total{code="internal",status="500",task="pain"} 1.0' in client.get("/metrics").text
