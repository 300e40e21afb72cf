"""Repeats and twins of real requests."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

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


def shared(text: str) -> dict[str, float]:
    """What /metrics says of sharing, by result."""
    lines = [line for line in text.splitlines() if line.startswith("pkdot_idempotent_total")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


def ask(client: TestClient, picture: bytes, request_id: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict/pain", files={"frames": picture}, headers={"x-request-id": request_id, **named})


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


def test_streamed_answers_are_not_shared(make_client: MakeClient, picture: bytes) -> None:
    client = make_client()
    for name in "ab":
        reply = ask(client, picture, name, idempotency_key="k", accept="application/x-ndjson")
        assert json.loads(reply.text.splitlines()[0])["request_id"] == name
        assert "server-timing" not in reply.headers

    assert shared(client.get("/metrics").text) == {}


def test_twins_run_once_and_a_repeat_joins_the_run_of_a_client_that_left(
    make_server: Callable[..., Any],
    picture: bytes,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.sharing.LINGER_S", 120.0)
    live = make_server()
    lifecycle = live.server.lifecycle
    gated = Gated(lifecycle.resources.pipeline)
    lifecycle.resources = replace(lifecycle.resources, pipeline=gated)
    url = f"http://127.0.0.1:{live.port}"
    part = b'--edge\r\nContent-Disposition: form-data; name="frames"; filename="a"\r\n\r\n'
    body = part + picture + b"\r\n--edge--\r\n"
    type_ = "multipart/form-data; boundary=edge"
    head = (
        f"POST /predict/pain HTTP/1.1\r\nHost: test\r\nIdempotency-Key: k\r\nContent-Type: {type_}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall(head.encode() + body)
        eventually(lambda: gated.begun == 1)

    def post(request_id: str, **more: str) -> Any:
        headers = {"content-type": type_, "x-request-id": request_id, **more}
        return httpx2.post(f"{url}/predict/pain", content=body, headers=headers, timeout=60)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(post, "repeat", **{"idempotency-key": "k"}), pool.submit(post, "twin")]
        eventually(lambda: shared(httpx2.get(f"{url}/metrics", timeout=60).text).get("joined") == 2)
        gated.open.set()
        repeat, twin = (future.result() for future in asked)

    assert (repeat.status_code, twin.status_code, gated.begun) == (200, 200, 1)
    assert (repeat.json()["request_id"], twin.json()["request_id"]) == ("repeat", "twin")
    assert repeat.json()["windows"] == twin.json()["windows"]
