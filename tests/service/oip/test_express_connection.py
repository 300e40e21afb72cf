"""What a request that is answered from its connection leaves there, and what it finds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.batcher.forecast import Forecast
from service.context import RequestContext
from service.oip.express import Trip
from service.settings import Settings

from .test_express import answered, infer, talking
from .test_live_server import LiveServer


@pytest.fixture
def live(folder: Path, open_server: Callable[..., Any]) -> Iterator[Any]:
    """A server that nobody has asked anything."""
    with open_server(Settings(bundles=folder, port=0, sandbox="off")) as server:
        yield server


def test_a_place_is_free_before_the_next_request_on_the_connection(
    folder: Path, open_server: Callable[..., Any], trips: list[bool]
) -> None:
    with (
        open_server(Settings(bundles=folder, port=0, sandbox="off", max_concurrent_requests=1)) as live,
        talking(live) as (connection, file),
    ):
        connection.sendall(2 * infer())
        assert [answered(file).status for _ in range(2)] == [200, 200]
    assert trips == [True]


def test_a_connection_keeps_nothing_of_what_was_answered(live: LiveServer, trips: list[bool]) -> None:
    with talking(live) as (connection, file):
        connection.sendall(infer())
        assert answered(file).status == 200
        (ours,) = live.server.server_state.connections
        assert len(ours.cycle.body) == 0
    assert trips == [True]


def test_the_upload_s_time_is_not_that_of_what_was_tried_in_vain(
    live: LiveServer, trips: list[bool], fail_on_nines: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_back, contexts, uploads_s = Trip.turn_back, list[RequestContext](), list[float]()

    def watched(trip: Trip) -> None:
        contexts.append(trip.context)
        uploads_s.append(trip.context.seconds["upload"])
        turn_back(trip)

    monkeypatch.setattr(Trip, "turn_back", watched)
    fail_on_nines()
    with talking(live) as (connection, file):
        connection.sendall(infer(data=[9] * 5))
        assert answered(file).status == 422

    assert trips == [True]
    assert [context.seconds for context in contexts] == [{"upload": upload_s} for upload_s in uploads_s]


@pytest.mark.parametrize("full", [False, True])
def test_who_takes_no_answers_gets_no_more_of_them(
    live: LiveServer,
    trips: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], bool]], None],
    full: bool,
) -> None:
    state = live.server.server_state
    with talking(live) as (connection, file):
        connection.sendall(infer())
        assert answered(file).status == 200
        if full:
            monkeypatch.setattr(live.server.lifecycle.require().admission, "max_queue_s", -1.0)
        (ours,) = state.connections
        ours.loop.call_soon_threadsafe(ours.flow.pause_writing)  # as where too much lies in the socket
        eventually(lambda: ours.flow.write_paused)
        connection.sendall(infer())
        eventually(lambda: len(state.tasks) == 1 or state.total_requests > 1)
        assert (state.total_requests, trips) == (1, [True])
        ours.loop.call_soon_threadsafe(ours.flow.resume_writing)
        assert answered(file).status == (503 if full else 200)


def test_tensors_that_wait_for_no_device_are_not_refused_for_those_who_do(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forecast, "wait_s", lambda *_: 50.0)
    statuses = []
    with talking(live) as (connection, file):
        for quick_s in (1.0, 0.0):
            monkeypatch.setattr("service.batcher.quick.QUICK_S", quick_s)
            connection.sendall(infer("X-Request-Timeout: 20"))
            statuses.append(answered(file).status)
    assert statuses == [200, 504]
