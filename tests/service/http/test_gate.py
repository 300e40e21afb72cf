"""Refusals at the headers, from the connection itself: the same answers as the app's, and cheaper."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from service.batcher.forecast import Forecast
from service.errors import DeadlineExceeded
from service.settings import Settings
from service.uploads.work_rate import Kind

from .raw_http import Reply, form, part, post, read_reply, statuses, talk

SMALL = form(part("video", b"x" * 100_000, "a"))
MODEL = "/v2/models/pain-test/infer"
CLOSES = "Connection: close"


@pytest.fixture(scope="module")
def live(bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A service with one place."""
    with open_server(
        Settings(bundles=bundles_folder, port=0, max_concurrent_requests=1, allowed_hosts=("test",))
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def app(bundles_folder: Path, open_client: Callable[[Settings], AbstractContextManager[Any]]) -> Iterator[Any]:
    """The client of an app with one place, without a connection in front of it."""
    with open_client(
        Settings(bundles=bundles_folder, max_concurrent_requests=1, allowed_hosts=("test", "testserver"))
    ) as opened:
        yield opened


@pytest.fixture
def full(live: Any) -> Iterator[int]:
    """The port of the service while its one place is taken."""
    with taken(live.server.lifecycle):
        yield live.port


def taken(lifecycle: Any) -> Any:
    return lifecycle.require().admission.place(Kind("other", "any", decodes=True), 0)


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as file:
        yield connection, file


def answered(file: IO[bytes]) -> Reply:
    reply = read_reply(file)
    assert reply is not None
    return reply


def test_a_refusal_is_the_answer_that_the_app_gives(full: int, app: Any) -> None:
    with taken(app.app.state.lifecycle):
        expected = app.post("/predict/pain", files={"video": b"x" * 100}, headers={"X-Request-ID": "one"})
    (refused,) = talk(full, post(SMALL, "X-Request-ID: one", CLOSES))

    assert refused.status == expected.status_code == 503
    ours, theirs = json.loads(refused.body), expected.json()
    assert {**ours, "detail": ""} == {**theirs, "detail": ""}
    assert ours["detail"].startswith("1 requests are at work, as many as are allowed; try again in ")
    assert set(refused.headers) == {*expected.headers, "connection", "date"}
    changing = {"content-length", "retry-after", "endpoint-load-metrics", "connection", "date"}
    assert {n: v for n, v in refused.headers.items() if n not in changing} == {
        n: v for n, v in expected.headers.items() if n not in changing
    }
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_the_open_inference_protocol_has_errors_of_its_own(full: int) -> None:
    (refused,) = talk(full, post(b"{}", CLOSES, path=MODEL))

    assert refused.status == 503
    assert json.loads(refused.body)["error"].startswith("1 requests are at work")


@pytest.fixture
def nobody_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may hold up the rest of a body for more than a second."""
    monkeypatch.setattr("service.http.protocol.DISCARD_S", 60.0)


@pytest.mark.usefixtures("nobody_stalls")
def test_a_connection_outlives_refusals_of_short_bodies(live: Any) -> None:
    with connected(live.port) as (connection, file):
        with taken(live.server.lifecycle):
            for body in (SMALL, b"", SMALL):
                connection.sendall(post(body))
                reply = answered(file)
                assert (reply.status, reply.headers.get("connection")) == (503, None)
        connection.sendall(post(SMALL))
        assert answered(file).status == 415


@pytest.mark.usefixtures("nobody_stalls")
def test_while_draining_a_refusal_ends_the_connection(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.server.lifecycle, "draining", True)
    with taken(live.server.lifecycle), connected(live.port) as (connection, file):
        connection.sendall(post(SMALL))
        reply = answered(file)
        assert (reply.status, reply.headers["connection"], file.read()) == (503, "close", b"")


@pytest.mark.usefixtures("nobody_stalls")
def test_what_is_refused_in_a_row_is_answered_in_its_order(full: int) -> None:
    probe = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"

    assert statuses(talk(full, post(SMALL) + probe + post(SMALL) + post(SMALL, CLOSES))) == [503, 200, 503, 503]


@pytest.mark.parametrize("how", ["long", "chunked", "expected"])
def test_a_connection_ends_where_the_end_of_a_body_is_far_or_unknown(full: int, how: str) -> None:
    head = {
        "long": post(b"", length=2_000_000),
        "chunked": post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        "expected": post(b"", "Expect: 100-continue", length=1000),
    }[how]
    (refused,) = talk(full, head)

    assert (refused.status, refused.headers["connection"]) == (503, "close")


def test_a_refused_body_that_stalls_is_not_waited_for(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.protocol.DISCARD_S", 0.1)
    (refused,) = talk(full, post(b"begin", length=1000))

    assert (refused.status, "connection" in refused.headers) == (503, False)


@pytest.mark.parametrize(("path", "field"), [("/predict/pain", "detail"), (MODEL, "error")])
def test_a_queue_beyond_the_deadline_is_refused_before_the_body(
    live: Any, monkeypatch: pytest.MonkeyPatch, path: str, field: str
) -> None:
    registry = live.server.lifecycle.telemetry.registry

    def cancelled() -> list[float | None]:
        return [registry.get_sample_value("pkdot_cancelled_total", {"stage": stage}) for stage in ("", "upload")]

    before = cancelled()
    monkeypatch.setattr(Forecast, "wait_s", lambda *_: 7.0)
    with connected(live.port) as (connection, file):
        connection.sendall(post(b"", "X-Request-Timeout: 2", path=path, length=100_000))
        refused = answered(file)

    assert refused.status == 504
    assert json.loads(refused.body)[field] == (
        "the queue and the request itself would take 7.00 s, too much of the 2.00 s that are left; "
        "ask for more with X-Request-Timeout, or try again later"
    )
    assert cancelled() == before


def test_tensors_do_not_wait_for_recordings_that_are_decoded(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = live.server.lifecycle.require()
    monkeypatch.setattr(resources.pipeline.decoders, "predicted_wait_s", lambda *_: 25.0)
    with pytest.raises(DeadlineExceeded, match=r"take 25\.0 s, too much of the 20\.0 s"):
        resources.refuse_recording(Kind("pain", "any", decodes=True), 20.0, None)
    assert resources.admission.queued_s(Kind("pain", "any", decodes=True), None) == 25.0
    assert resources.admission.queued_s(Kind("/v2 a", "any", decodes=False), None) == 0.0
    with connected(live.port) as (connection, file):
        for path, status in (("/predict/pain", 504), (MODEL, 400)):
            connection.sendall(post(b"", "X-Request-Timeout: 20", path=path))
            assert answered(file).status == status


@pytest.mark.parametrize(("is_free", "least_s"), [(True, 4.0), (False, 5.0)], ids=["nobody waits", "others wait"])
def test_beside_others_a_request_may_take_most_of_its_time_but_not_all(
    live: Any, monkeypatch: pytest.MonkeyPatch, is_free: bool, least_s: float
) -> None:
    resources = live.server.lifecycle.require()
    monkeypatch.setattr(Forecast, "wait_s", lambda *_: 4.0)
    monkeypatch.setattr(Forecast, "is_free", is_free)
    resources.refuse_tensors("any", least_s + 0.1, 1)
    with pytest.raises(DeadlineExceeded, match=r"take 4\.00 s, too much of the"):
        resources.refuse_tensors("any", least_s - 0.1, 1)


def test_who_waits_for_a_decoder_stands_behind_others_though_the_device_is_idle(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, kind = live.server.lifecycle.require(), Kind("pain", "any", decodes=True)
    monkeypatch.setattr(Forecast, "wait_s", lambda *_: 1.0)
    assert resources.batcher.forecast.is_free
    resources.refuse_recording(kind, 1.1, None)
    monkeypatch.setattr(resources.pipeline.decoders, "predicted_wait_s", lambda *_: 3.0)
    resources.refuse_recording(kind, 5.1, None)
    with pytest.raises(DeadlineExceeded, match=r"take 4\.00 s, too much of the 4\.90 s"):
        resources.refuse_recording(kind, 4.9, None)


def test_a_time_of_less_than_milliseconds_is_told_as_it_is(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forecast, "wait_s", lambda *_: 0.0012345)
    with pytest.raises(DeadlineExceeded, match=r"take 0\.00123 s, too much of the 0\.000510 s"):
        live.server.lifecycle.require().refuse_tensors("any", 0.00051, 1)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"", CLOSES).replace(b"Host: test", b"Host: other"), 421),
        (post(b"", CLOSES, path="/v2/models/none/infer"), 404),
        (post(b"", CLOSES, path="/nothing"), 404),
        (post(b"", "X-Request-Timeout: soon", CLOSES), 422),
        (post(b"", CLOSES, length=1 << 40), 413),
        (b"GET /health/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", 200),
    ],
    ids=["host", "model", "address", "header", "size", "probe"],
)
def test_what_is_wrong_otherwise_is_the_apps_to_say(full: int, request_: bytes, status: int) -> None:
    assert statuses(talk(full, request_)) == [status]


def test_a_refusal_is_counted_and_logged(full: int, live: Any, caplog: pytest.LogCaptureFixture) -> None:
    registry = live.server.lifecycle.telemetry.registry
    labels = {"task": "pain", "status": "503", "code": "overloaded"}
    before = registry.get_sample_value("pkdot_requests_total", labels) or 0.0
    with caplog.at_level(logging.INFO, "pkdot.requests"):
        talk(full, post(SMALL, "X-Request-ID: counted", CLOSES))

    assert registry.get_sample_value("pkdot_requests_total", labels) == before + 1
    assert registry.get_sample_value("pkdot_requests_in_flight", {"task": "pain"}) == 0
    (line,) = [record.getMessage() for record in caplog.records if "request=counted" in record.getMessage()]
    assert line.startswith("POST /predict/pain 503 overloaded ")


def headers_from(host: bytes) -> dict[str, Any]:
    headers = [(b"host", host)]
    return {"type": "http", "method": "POST", "path": "/predict/pain", "scheme": "http", "headers": headers}


def passed_in_one_turn(app: Any, *hosts: bytes) -> list[bool]:
    """Whether each passes the gate, where all come in one turn of the event loop."""

    async def ask() -> list[bool]:
        passed = [app.app.state.gate(headers_from(host)) is None for host in hosts]
        await asyncio.sleep(0)
        return passed

    return asyncio.run(ask())


def test_those_who_come_together_count_before_they_have_their_places(app: Any) -> None:
    for _ in range(2):
        assert passed_in_one_turn(app, b"test", b"test", b"test") == [True, False, False]


def test_those_who_may_not_come_in_take_no_room_from_others(app: Any) -> None:
    assert passed_in_one_turn(app, b"other", b"other", b"test", b"test") == [True, True, True, False]
