"""Repeats and twins of real requests."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.errors import NotReady
from service.middleware import Exchange
from tests import loopback

from ..http.raw_http import form, part
from ..http.raw_http import post as raw_request

LINES = "application/x-ndjson"
FORM = "multipart/form-data; boundary=edge"
MakeClient = Callable[..., TestClient]


class Gated:
    """A pipeline that computes nothing before the gate is open."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.open = threading.Event()
        self.begun = 0

    async def compute(self, *args: Any) -> Any:
        self.begun += 1
        await asyncio.to_thread(self.open.wait)
        return await self.pipeline.compute(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)


def gated_in(lifecycle: Any) -> Gated:
    """The pipeline of a service from now on."""
    gated = Gated(lifecycle.resources.pipeline)
    lifecycle.resources = replace(lifecycle.resources, pipeline=gated)
    return gated


def leave_once_begun(port: int, body: bytes, accept: str, has_begun: Callable[[], None]) -> None:
    """A client with the key `k` that waits for no more than its run's begin."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(raw_request(body, "Idempotency-Key: k", f"Accept: {accept}"))
        has_begun()


def shared(text: str) -> dict[str, float]:
    """What /metrics says of sharing, by result."""
    lines = [line for line in text.splitlines() if line.startswith("pkdot_idempotent_total")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


def ask(client: TestClient, content: bytes, request_id: str, *, file: str = "frames", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict/pain", files={file: content}, headers={"x-request-id": request_id, **named})


@pytest.fixture
def picture(clips: Path) -> bytes:
    return (clips / "single_face.jpg").read_bytes()


def test_a_repeat_is_answered_from_memory_under_its_own_id(make_client: MakeClient, picture: bytes) -> None:
    client = make_client()
    first = ask(client, picture, "a", idempotency_key="k")
    second = ask(client, picture, "b", idempotency_key="k")

    assert (first.status_code, second.status_code) == (200, 200)
    assert (second.json()["request_id"], second.headers["x-request-id"]) == ("b", "b")
    assert second.json() == first.json() | {"request_id": "b"}
    assert [part.split(";")[0] for part in second.headers["server-timing"].split(", ")] == ["upload"]
    assert shared(client.get("/metrics").text) == {"new": 1, "stored": 1}


def test_a_key_belongs_to_its_payload(make_client: MakeClient, picture: bytes) -> None:
    client = make_client()
    ask(client, picture, "a", idempotency_key="k")
    reply = ask(client, picture + b"x", "b", idempotency_key="k")

    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_mismatch")
    assert reply.json()["instance"] == "urn:pkdot:request:b"
    assert "another payload" in reply.json()["detail"]


def test_a_refusal_is_kept_too(make_client: MakeClient) -> None:
    client = make_client()
    first, second = (ask(client, b"no picture", name, idempotency_key="k") for name in "ab")

    assert first.status_code == second.status_code == 415
    assert second.json() == first.json() | {"instance": "urn:pkdot:request:b"}
    assert shared(client.get("/metrics").text) == {"new": 1, "stored": 1}


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "\xe9"])
def test_a_key_that_is_none_is_refused_before_the_upload(client: TestClient, key: str) -> None:
    headers = {b"idempotency-key": key.encode("latin-1"), b"content-type": b"multipart/form-data; boundary=b"}
    reply = client.post("/predict/pain", content=b"not even multipart", headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_field")
    assert [error["field"] for error in reply.json()["errors"]] == ["Idempotency-Key"]


def lines_of(reply: Any) -> list[dict[str, Any]]:
    """All lines but those that tell the progress."""
    assert (reply.status_code, reply.headers["content-type"]) == (200, LINES), reply.text
    lines = [json.loads(line) for line in reply.text.splitlines()]
    return [line for line in lines if line["type"] != "progress"]


def test_streamed_answers_without_a_key_are_not_shared(make_client: MakeClient, picture: bytes) -> None:
    client = make_client()
    for name in "ab":
        reply = ask(client, picture, name, accept=LINES)
        assert lines_of(reply)[0]["request_id"] == name
        assert "server-timing" not in reply.headers

    assert shared(client.get("/metrics").text) == {}


@pytest.mark.parametrize("first_accepts", [LINES, "application/json"])
def test_a_repeat_is_told_the_kept_answer_in_lines(make_client: MakeClient, clips: Path, first_accepts: str) -> None:
    client = make_client()
    film = {"video": (clips / "face_noface.mov").read_bytes()}

    def post(request_id: str, accept: str) -> Any:
        headers = {"x-request-id": request_id, "idempotency-key": "k", "accept": accept}
        return client.post("/predict/pain", files=film, headers=headers)

    first, lines, whole = post("a", first_accepts), lines_of(post("b", LINES)), post("c", "application/json").json()

    assert [line["type"] for line in lines] == ["start", *["window"] * len(whole["windows"]), "summary"]
    assert lines[0] == {"type": "start", "request_id": "b"} | {
        name: whole[name] for name in ("api_version", "task", "bundle", "media")
    }
    assert lines[1:-1] == [{"type": "window"} | window for window in whole["windows"]]
    assert lines[-1] == {"type": "summary"} | {
        name: whole[name] for name in ("summary", "faces", "modalities", "confidence_level", "warnings", "timing_ms")
    }
    if first_accepts == LINES:
        own = lines_of(first)
        assert own[0] == lines[0] | {"request_id": "a"}
        assert own[1:-1] == lines[1:-1]
        assert own[-1] | {"timing_ms": None} == lines[-1] | {"timing_ms": None}
    assert shared(client.get("/metrics").text) == {"new": 1, "stored": 2}


def test_a_kept_answer_leaves_in_pieces_of_whole_lines(
    make_client: MakeClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.predict.ndjson.PIECE_BYTES", 1)
    sent: list[tuple[bytes, bool]] = []
    send = Exchange.send

    async def noted(self: Exchange, message: Any) -> None:
        if self.context.request_id == "b" and message["type"] == "http.response.body":
            sent.append((message["body"], message["more_body"]))
        await send(self, message)

    monkeypatch.setattr(Exchange, "send", noted)
    client = make_client()
    for name in "ab":
        reply = ask(client, picture, name, idempotency_key="k", accept=LINES)

    assert [json.loads(body)["type"] for body, _ in sent] == ["start", "window", "summary"]
    assert [more for _, more in sent] == [True, True, False]
    assert b"".join(body for body, _ in sent) == reply.content


def stop_once(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """The client of request `late` takes nothing when its message of this place is to be sent; later it goes on."""
    send, coming = Exchange.send, count()

    async def send_to_one_who_pauses(self: Exchange, message: Any) -> None:
        if self.context.request_id == "late" and next(coming) == place:
            await asyncio.Event().wait()
        await send(self, message)

    monkeypatch.setattr(Exchange, "send", send_to_one_who_pauses)


def test_a_deadline_that_passes_while_the_lines_leave_costs_none_and_is_the_only_end(
    make_client: MakeClient, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.predict.ndjson.PIECE_BYTES", 1)
    stop_once(monkeypatch, place=2)  # behind the status and the first line
    client = make_client()
    film = (clips / "face_noface.mov").read_bytes()
    whole = ask(client, film, "a", idempotency_key="k", file="video").json()
    lines = lines_of(ask(client, film, "late", idempotency_key="k", file="video", accept=LINES, x_request_timeout="2"))

    assert [line["type"] for line in lines] == ["start", *["window"] * len(whole["windows"]), "error"]
    assert [line | {"type": "window"} for line in whole["windows"]] == lines[1:-1]
    assert lines[-1]["problem"]["code"] == "deadline_exceeded"


def test_a_deadline_that_passes_before_the_status_is_out_has_its_own(
    make_client: MakeClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_once(monkeypatch, place=0)
    client = make_client()
    ask(client, picture, "a", idempotency_key="k")
    late = ask(client, picture, "late", idempotency_key="k", accept=LINES, x_request_timeout="2")

    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


def test_a_key_of_a_stream_belongs_to_its_payload(make_client: MakeClient, picture: bytes) -> None:
    client = make_client()
    lines_of(ask(client, picture, "a", idempotency_key="k", accept=LINES))
    replies = [ask(client, picture + b"x", "b", idempotency_key="k", accept=form) for form in (LINES, "*/*")]

    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(422, "idempotency_mismatch")] * 2
    assert shared(client.get("/metrics").text) == {"new": 1, "mismatch": 2}


def test_a_refusal_of_a_stream_is_kept_too(make_client: MakeClient) -> None:
    client = make_client()
    first, second = (ask(client, b"no picture", name, idempotency_key="k", accept=LINES) for name in "ab")

    assert first.status_code == second.status_code == 415
    assert second.json() == first.json() | {"instance": "urn:pkdot:request:b"}
    assert shared(client.get("/metrics").text) == {"new": 1, "stored": 1}


def test_a_stream_that_fails_or_is_late_gives_its_run_back(
    make_client: MakeClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 0.0)  # the status is out: what fails is told by the last line
    client = make_client()
    lifecycle = client.app.state.lifecycle  # type: ignore[attr-defined]
    gated = gated_in(lifecycle)
    late = ask(client, picture, "a", idempotency_key="k", accept=LINES, x_request_timeout="2")
    gated.open.set()
    monkeypatch.setattr(gated.pipeline.decoders, "run", fail)
    failed = ask(client, picture, "b", idempotency_key="k", accept=LINES)
    lifecycle.resources = replace(lifecycle.resources, pipeline=gated.pipeline)
    monkeypatch.undo()

    assert [lines_of(reply)[-1]["problem"]["code"] for reply in (late, failed)] == ["deadline_exceeded", "not_ready"]
    assert lines_of(ask(client, picture, "c", idempotency_key="k", accept=LINES))[-1]["type"] == "summary"
    assert ask(client, picture + b"x", "d", idempotency_key="k", accept=LINES).status_code == 422
    assert shared(client.get("/metrics").text) == {"new": 3, "mismatch": 1}


async def fail(*_: Any, **__: Any) -> None:
    raise NotReady("the decoder was lost")


def test_a_run_in_lines_that_nobody_comes_back_for_is_given_up(
    make_server: Callable[..., Any],
    picture: bytes,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.sharing.sharing.LINGER_S", 0.1)
    live = make_server()
    lifecycle = live.server.lifecycle
    gated, body = gated_in(lifecycle), form(part("frames", picture, "a"))
    leave_once_begun(live.port, body, LINES, lambda: eventually(lambda: gated.begun == 1))
    eventually(lambda: lifecycle.resources.admission.at_work == 0)
    gated.open.set()
    url = f"http://127.0.0.1:{live.port}"
    headers = {"content-type": FORM, "idempotency-key": "k", "accept": LINES}
    reply = loopback.post(f"{url}/predict/pain", content=body, headers=headers, timeout=60)

    assert lines_of(reply)[-1]["type"] == "summary"
    assert shared(loopback.get(f"{url}/metrics", timeout=60).text) == {"new": 2}


def test_a_reader_who_does_not_read_keeps_no_repeat_waiting(
    make_client: MakeClient, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, stuck, send = threading.Event(), threading.Event(), Exchange.send

    async def send_to_one_who_pauses(self: Exchange, message: Any) -> None:
        if self.context.request_id == "slow" and message["type"] == "http.response.body":
            stuck.set()
            await asyncio.to_thread(reads.wait)
        await send(self, message)

    monkeypatch.setattr(Exchange, "send", send_to_one_who_pauses)
    monkeypatch.setattr("service.predict.ndjson.UNREAD_S", 600.0)
    client = make_client()
    film = (clips / "face_noface.mov").read_bytes()

    def post(request_id: str) -> Any:
        headers = {"x-request-id": request_id, "idempotency-key": "k", "accept": LINES}
        return client.post("/predict/pain", files={"video": film}, headers=headers)

    with ThreadPoolExecutor(1) as pool:
        try:
            slow = pool.submit(post, "slow")
            assert stuck.wait(60)
            repeat = lines_of(post("repeat"))
        finally:
            reads.set()
        paused = lines_of(slow.result())

    assert repeat[1:-1] == paused[1:-1]
    assert len(repeat) == 6
    results = shared(client.get("/metrics").text)
    assert results["new"] == 1
    assert set(results) <= {"new", "joined", "stored"}


@pytest.mark.parametrize("accept", ["application/json", LINES])
def test_twins_run_once_and_a_repeat_joins_the_run_of_a_client_that_left(
    make_server: Callable[..., Any],
    picture: bytes,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    accept: str,
) -> None:
    monkeypatch.setattr("service.sharing.sharing.LINGER_S", 120.0)
    live = make_server()
    gated, body = gated_in(live.server.lifecycle), form(part("frames", picture, "a"))
    url = f"http://127.0.0.1:{live.port}"
    leave_once_begun(live.port, body, accept, lambda: eventually(lambda: gated.begun == 1))

    def post(request_id: str, **more: str) -> Any:
        headers = {"content-type": FORM, "x-request-id": request_id, **more}
        return loopback.post(f"{url}/predict/pain", content=body, headers=headers, timeout=60)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(post, "repeat", **{"idempotency-key": "k", "accept": accept}), pool.submit(post, "twin")]
        eventually(lambda: shared(loopback.get(f"{url}/metrics", timeout=60).text).get("joined") == 2)
        gated.open.set()
        repeat, twin = (future.result() for future in asked)

    assert (repeat.status_code, twin.status_code, gated.begun) == (200, 200, 1)
    windows = twin.json()["windows"]
    assert twin.json()["request_id"] == "twin"
    if accept == LINES:
        start, *rest, summary = lines_of(repeat)
        assert (start["request_id"], summary["summary"]) == ("repeat", twin.json()["summary"])
        assert rest == [{"type": "window"} | window for window in windows]
    else:
        assert (repeat.json()["request_id"], repeat.json()["windows"]) == ("repeat", windows)
