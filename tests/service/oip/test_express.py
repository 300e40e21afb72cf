"""Small requests that come whole are answered from the connection itself; nobody can tell, but for the time."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from service.access.keys import new_key
from service.oip.express import Trip
from service.runtime.runner import GraphRunner
from service.settings import Settings
from tests.service.http.raw_http import Reply, post, read_reply

from .test_live_server import PAIN, LiveServer, samples

EDA = {"name": "eda", "shape": [1, 5], "datatype": "FP32", "data": [0, 0, 0, 0, 0]}
OURS = frozenset({"date", "x-request-id", "server-timing", "endpoint-load-metrics"})
"""Headers that differ from answer to answer."""


@pytest.fixture
def live(folder: Path, open_server: Callable[..., Any]) -> Iterator[Any]:
    """A server whose counters begin at 0, and which may be drained."""
    with open_server(Settings(bundles=folder, port=0, sandbox="off")) as server:
        yield server


def infer(*headers: str, **changed: Any) -> bytes:
    return post(json.dumps({"inputs": [EDA | changed]}).encode(), *headers, path=PAIN)


@contextmanager
def talking(live: LiveServer) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    with (
        socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection,
        connection.makefile("rb") as file,
    ):
        yield connection, file


def answered(file: IO[bytes]) -> Reply:
    reply = read_reply(file)
    assert reply is not None
    return reply


def test_both_ways_lead_to_one_answer_and_count_alike(
    live: LiveServer, trips: list[bool], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    request, resources = infer(), live.server.lifecycle.require()
    with talking(live) as (connection, file):
        connection.sendall(request)
        short = answered(file)
        connection.sendall(request[:-10])
        eventually(lambda: resources.admission.at_work == 1)  # the app has begun
        connection.sendall(request[-10:])
        long = answered(file)

    assert trips == [True]
    assert (short.status, short.body) == (long.status, long.body) == (200, long.body)
    assert short.headers.keys() == long.headers.keys()
    assert {name: value for name, value in short.headers.items() if name not in OURS} == {
        name: value for name, value in long.headers.items() if name not in OURS
    }
    found = samples(live)
    assert found['pkdot_requests_total{code="ok",status="200",task="pain"}'] == "2.0"
    assert found['pkdot_requests_in_flight{task="pain"}'] == "0.0"
    assert found['pkdot_stage_seconds_count{stage="inference",task="pain"}'] == "2.0"
    assert found["pkdot_spool_bytes"] == "0.0"


def test_a_window_that_was_not_observed_has_no_answer(live: LiveServer, trips: list[bool]) -> None:
    with talking(live) as (connection, file):
        connection.sendall(infer(data=[None] * 5))
        reply = answered(file)

    assert trips == [True]
    outputs = {output["name"]: output["data"] for output in json.loads(reply.body)["outputs"]}
    assert outputs == {
        "logits": [None, None],
        "probabilities": [None, None, None],
        "expected": [None],
        "conformal_set": [False, False, False],
    }
    counted = 'pkdot_windows_total{bundle="pain",outcome="not_computable"'
    assert [value for series, value in samples(live).items() if series.startswith(counted)] == ["1.0"]


def test_requests_on_one_connection_are_answered_in_their_order(live: LiveServer, trips: list[bool]) -> None:
    with talking(live) as (connection, file):
        connection.sendall(infer(data=[1] * 5) + infer(shape=[1, 4]) + infer(data=[2] * 5) + infer(data=[1] * 5))
        first, refused, second, third = (answered(file) for _ in range(4))

    assert [first.status, refused.status, second.status, third.status] == [200, 422, 200, 200]
    assert first.body == third.body != second.body
    assert trips[0] is True


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (infer("Expect: 100-continue"), 100),
        (infer("Content-Encoding: gzip"), 415),
        (infer(shape=[1, 4]), 422),
        (infer("Inference-Header-Content-Length: 0"), 400),
        (infer("X-Request-Timeout: 0.000001"), 504),
    ],
    ids=["asks first", "encoded", "wrong shape", "no JSON", "no time"],
)
def test_what_is_not_simply_right_is_the_apps(
    live: LiveServer, trips: list[bool], request_bytes: bytes, status: int
) -> None:
    with talking(live) as (connection, file):
        connection.sendall(request_bytes)
        reply = answered(file)

    assert reply.status == status
    assert True not in trips


def test_tensors_that_fail_are_refused_by_the_app_and_counted_once(
    live: LiveServer, trips: list[bool], fail_on_nines: Callable[[], None]
) -> None:
    fail_on_nines()
    with talking(live) as (connection, file):
        connection.sendall(infer(data=[9] * 5))
        refused = answered(file)
        connection.sendall(infer())
        fine = answered(file)

    assert (refused.status, fine.status, trips) == (422, 200, [True, True])
    found = samples(live)
    assert found['pkdot_requests_total{code="unreadable_media",status="422",task="pain"}'] == "1.0"
    assert found['pkdot_requests_in_flight{task="pain"}'] == "0.0"
    assert found['pkdot_stage_seconds_count{stage="upload",task="pain"}'] == "2.0"


@pytest.mark.parametrize("where", ["rows", "render"])
def test_a_bug_on_the_way_is_logged_and_costs_no_answer(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Trip, where, broken)
    with talking(live) as (connection, file):
        connection.sendall(infer())
        assert answered(file).status == 200

    assert "failed" in caplog.text
    assert samples(live)['pkdot_requests_in_flight{task="pain"}'] == "0.0"


def test_while_draining_the_connection_ends_with_the_answer(live: LiveServer, trips: list[bool]) -> None:
    with talking(live) as (connection, file):
        live.server.lifecycle.draining = True
        connection.sendall(infer())
        reply = answered(file)
        assert (reply.status, reply.headers["connection"], file.read()) == (200, "close", b"")
    assert trips == [True]


@pytest.mark.parametrize("half_close", [True, False])
def test_a_client_that_leaves_before_its_body_is_whole_is_counted(
    live: LiveServer, eventually: Callable[[Callable[[], bool]], None], half_close: bool
) -> None:
    with talking(live) as (connection, file):
        connection.sendall(infer()[:-10])
        if half_close:
            connection.shutdown(socket.SHUT_WR)
            assert answered(file).status == 400

    gone = 'pkdot_requests_total{code="client_gone",status="499",task="pain"}'
    eventually(lambda: samples(live).get(gone) == "1.0")
    assert samples(live)['pkdot_requests_in_flight{task="pain"}'] == "0.0"


def test_a_client_that_leaves_as_its_answer_comes_is_ended_once(
    live: LiveServer, trips: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive = Trip.arrive

    def just_left(trip: Trip, future: Any) -> None:
        connection = trip.answer.func.__self__  # type: ignore[attr-defined]  # a method of it, with its first argument
        connection.connection_lost(None)
        arrive(trip, future)

    monkeypatch.setattr(Trip, "arrive", just_left)
    with talking(live) as (connection, file):
        connection.sendall(infer())
        assert file.read() == b""

    totals = {name: value for name, value in samples(live).items() if name.startswith("pkdot_requests_total")}
    ended = {name: value for name, value in totals.items() if value != "0.0"}
    assert ended == {'pkdot_requests_total{code="client_gone",status="499",task="pain"}': "1.0"}
    assert samples(live)['pkdot_requests_in_flight{task="pain"}'] == "0.0"
    assert trips == [True]


def test_a_key_is_asked_for_and_counted_here_too(
    folder: Path, open_server: Callable[..., Any], tmp_path: Path, trips: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    token, key = new_key("ward", 1)
    (tmp_path / "keys.txt").write_text(key.line() + "\n")
    run_checked, go, entered = GraphRunner.run_checked, threading.Event(), threading.Event()

    def wait(runner: GraphRunner, *arguments: Any) -> Any:
        entered.set()
        assert go.wait(60)
        return run_checked(runner, *arguments)

    with open_server(Settings(bundles=folder, port=0, sandbox="off", api_keys_file=tmp_path / "keys.txt")) as live:
        monkeypatch.setattr(GraphRunner, "run_checked", wait)
        monkeypatch.setattr("service.batcher.quick.QUICK_S", 0.0)
        monkeypatch.setattr("service.batcher.quick.LONE_S", 0.0)
        mine = infer(f"Authorization: Bearer {token}")

        def status_of(request: bytes) -> int:
            with talking(live) as (connection, file):
                connection.sendall(request)
                return answered(file).status

        with talking(live) as (first, first_file):
            assert status_of(infer()) == 401
            first.sendall(mine)
            assert entered.wait(60)
            assert status_of(mine) == 429
            go.set()
            assert answered(first_file).status == 200
            assert status_of(mine) == 200

    assert trips == [True, True]


def test_the_event_loop_computes_what_is_short_only_while_nothing_else_goes_on(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    run_checked, threads = GraphRunner.run_checked, list[str]()

    def watched(runner: GraphRunner, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return run_checked(runner, *arguments)

    monkeypatch.setattr(GraphRunner, "run_checked", watched)
    monkeypatch.setattr("service.batcher.quick.QUICK_S", 0.0)
    resources = live.server.lifecycle.require()

    def computed_by() -> str:
        connection.sendall(infer())
        assert answered(file).status == 200
        return threads.pop()

    with talking(live) as (connection, file):
        lone = computed_by()
        with talking(live) as (uploading, _):
            uploading.sendall(infer()[:-10])
            eventually(lambda: resources.admission.at_work == 1)
            beside_an_upload = computed_by()
        eventually(lambda: resources.admission.at_work == 0)
        with live.server.streams.place():
            beside_a_stream = computed_by()
        again = computed_by()

    assert [beside_an_upload, beside_a_stream] == ["device-0", "device-0"]
    assert lone == again != "device-0"


def test_as_many_as_are_allowed_are_answered_at_once(folder: Path, open_server: Callable[..., Any]) -> None:
    with (
        open_server(Settings(bundles=folder, port=0, sandbox="off", max_concurrent_requests=8)) as live,
        ExitStack() as stack,
    ):
        talks = [stack.enter_context(talking(live)) for _ in range(8)]
        for _ in range(10):
            for connection, _ in talks:
                connection.sendall(infer())
            assert [answered(file).status for _, file in talks] == [200] * 8
