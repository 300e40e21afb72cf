"""What the lines of an answer hold, and how they end where something fails."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from models.inputs.media.media import MediaError
from service.predict.ndjson import wants_lines

from .lines import LINES, PAIN, WAIT_S, gate_frames, lines_of, streamed

pytestmark = pytest.mark.usefixtures("no_signs_of_life")
AFFECT = "/predict/valence-arousal"


def test_the_lines_hold_what_the_whole_answer_holds(client: TestClient, clips: Path) -> None:
    files = {"video": (clips / "face_noface.mov").read_bytes()}
    whole = client.post(AFFECT, files=files, data={"detail": "frames"}).json()
    reply = client.post(AFFECT, files=files, data={"detail": "frames"}, headers=LINES)
    lines = lines_of(reply)

    assert [line["type"] for line in lines if line["type"] != "progress"] == ["start", *["window"] * 4, "summary"]
    assert list(lines[0]) == ["type", "api_version", "task", "request_id", "bundle", "media"]
    assert {name: lines[0][name] for name in ("api_version", "task", "bundle", "media")} == {
        name: whole[name] for name in ("api_version", "task", "bundle", "media")
    }
    assert lines[0]["request_id"] == reply.headers["x-request-id"]
    windows = [line for line in lines if line["type"] == "window"]
    assert [{"type": "window"} | window for window in whole["windows"]] == windows
    assert list(lines[-1]) == ["type", "summary", "faces", "modalities", "confidence_level", "warnings", "timing_ms"]
    for name in ("summary", "faces", "modalities", "confidence_level", "warnings"):
        assert lines[-1][name] == whole[name]
    assert set(lines[-1]["timing_ms"]) == set(whole["timing_ms"])


def test_a_stream_has_the_headers_of_answers_but_tells_no_times(client: TestClient, clips: Path) -> None:
    reply = client.post(PAIN, files={"video": (clips / "single_face.mp4").read_bytes()}, headers=LINES)

    assert reply.headers["cache-control"] == "no-store"
    assert "server-timing" not in reply.headers
    assert "frames" not in lines_of(reply)[1]


def test_the_document_describes_each_kind_of_line(client: TestClient, clips: Path) -> None:
    content = client.get("/openapi.json").json()["paths"][PAIN]["post"]["responses"]["200"]["content"]
    kinds = content["application/x-ndjson"]["schema"]["oneOf"]
    described = {}
    for kind in kinds:
        own = kind["allOf"][0] if "allOf" in kind else kind
        described[own["properties"]["type"]["const"]] = set(own["required"])
    lines = lines_of(client.post(PAIN, files={"video": (clips / "single_face.mp4").read_bytes()}, headers=LINES))

    assert set(described) == {"start", "window", "progress", "summary", "error"}
    assert {line["type"] for line in lines} >= {"start", "window", "summary"}
    for line in lines:
        assert described[line["type"]] <= set(line)
        assert line["type"] == "window" or described[line["type"]] == set(line)


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("application/x-ndjson", True),
        ("application/json, Application/X-NDJSON", True),
        ("application/json;q=0.5, Application/X-NDJSON; Q=0.5", True),
        ("application/json;q=0.4, application/x-ndjson;q=0.5", True),
        ("application/json, application/x-ndjson;q=0.1", False),
        ("application/x-ndjson;q=0.1, application/*;q=0.2", False),
        ("application/x-ndjson;q=0.8, */*;q=0.9", False),
        ("application/x-ndjson;q=0.8, application/*;q=0.7, */*;q=0.9", True),
        ("application/x-ndjson;q=0.8, application/json;q=0, */*", True),
        ("text/html, application/x-ndjson;q=0.9, */*;q=0.8", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson; q=0.000", False),
        ("application/x-ndjson;q=0, application/json;q=0", False),
        ("application/json", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
    ],
)
def test_lines_are_sent_to_those_who_ask_for_them(accepted: str, wanted: bool) -> None:
    assert wants_lines(Headers({"accept": accepted})) is wanted
    assert wants_lines(Headers(raw=[(b"accept", part.encode()) for part in accepted.split(",")])) is wanted


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("no_face.mp4", 422, "no_face"), ("nothing", 415, "unsupported_media")],
)
def test_what_fails_before_the_first_answer_has_its_own_status(
    client: TestClient, clips: Path, name: str, status: int, code: str
) -> None:
    content = b"no recording at all" * 99 if name == "nothing" else (clips / name).read_bytes()
    reply = client.post(PAIN, files={"video": content}, headers=LINES)

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"


def test_a_late_failure_is_the_last_line(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    answered = threading.Event()

    def gate(time_s: float, tick: Callable[[], None]) -> None:  # noqa: ARG001
        if time_s > 4.0:
            assert answered.wait(WAIT_S)
            raise MediaError("too_large", "the recording has 99 streams; at most 16 are accepted")

    gate_frames(monkeypatch, gate)
    client = make_client(sandbox="off")
    telemetry = client.app.state.lifecycle.telemetry  # type: ignore[attr-defined]
    note = telemetry.answered
    monkeypatch.setattr(telemetry, "answered", lambda *args: (note(*args), answered.set()))
    lines = lines_of(
        client.post(
            PAIN, files={"video": (clips / "face_noface.mov").read_bytes()}, headers=LINES | {"x-request-id": "a"}
        )
    )

    assert [line["type"] for line in lines] == ["start", "window", "window", "error"]
    assert lines[-1]["problem"]["code"] == "too_large"
    assert lines[-1]["problem"]["status"] == 413
    assert lines[-1]["problem"]["instance"] == "urn:pkdot:request:a"
    assert 'pkdot_requests_total{code="too_large",status="200",task="pain"} 1.0' in client.get("/metrics").text


def hang_in_the_second_window(time_s: float, tick: Callable[[], None]) -> None:
    while time_s > 2.0:
        tick()
        time.sleep(0.01)


@pytest.mark.usefixtures("tracker")  # which is fast: the first window must be there in time
def test_a_deadline_that_passes_in_mid_stream_is_the_last_line(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    gate_frames(monkeypatch, hang_in_the_second_window)
    client = make_client(sandbox="off")
    files = {"video": (clips / "single_face.mp4").read_bytes()}
    lines = lines_of(client.post(PAIN, files=files, headers=LINES | {"x-request-timeout": "10"}))

    assert [line["type"] for line in lines] == ["start", "window", "error"]
    assert lines[-1]["problem"]["code"] == "deadline_exceeded"
    assert client.get("/health/ready").status_code == 200


@pytest.mark.usefixtures("tracker")
def test_a_service_that_ends_in_mid_stream_says_so_in_the_last_line(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    gate_frames(monkeypatch, hang_in_the_second_window)
    live = make_server(sandbox="off")
    with streamed(live, (clips / "single_face.mp4").read_bytes()) as reply:
        lines = reply.iter_lines()
        begin = [json.loads(next(lines))["type"] for _ in range(2)]
        live.server.force_exit = live.server.should_exit = True  # as a second Ctrl-C does
        (last,) = map(json.loads, lines)

    assert (begin, last["type"], last["problem"]["code"]) == (["start", "window"], "error", "not_ready")


def test_signs_of_life_come_while_nothing_can_be_answered(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 0.0)
    monkeypatch.setattr("service.predict.ndjson.PROGRESS_S", 0.01)
    client = make_client()
    lines = lines_of(client.post(PAIN, files={"video": (clips / "no_face.mp4").read_bytes()}, headers=LINES))

    progress = [line for line in lines if line["type"] == "progress"]
    assert lines[0]["type"] == "start"
    assert lines[-1]["type"] == "error"
    assert lines[-1]["problem"]["code"] == "no_face"
    assert [line["done_s"] for line in progress] == sorted(line["done_s"] for line in progress)
    assert {line["total_s"] for line in progress} <= {4.0}  # the end of the last window
    assert all(set(line) == {"type", "done_s", "total_s"} for line in progress)


def test_the_progress_is_told_soon_after_the_first_window(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    monkeypatch.setattr("service.predict.ndjson.PROGRESS_S", 0.01)  # and the status would be held back for much longer
    go_on = threading.Event()

    def gate(time_s: float, tick: Callable[[], None]) -> None:  # noqa: ARG001
        if time_s > 2.0:
            assert go_on.wait(WAIT_S)

    gate_frames(monkeypatch, gate)
    live = make_server(sandbox="off")
    with streamed(live, (clips / "face_noface.mov").read_bytes()) as reply:
        lines = reply.iter_lines()
        first = [json.loads(next(lines)) for _ in range(3)]
        go_on.set()
        rest = [json.loads(line) for line in lines]

    assert [line["type"] for line in first] == ["start", "window", "progress"]
    assert 0 < first[2]["done_s"] <= 2.0
    assert rest[-1]["type"] == "summary"
