"""Answers as JSON lines: each window when it is computed, and no more in memory than is on its way."""

import asyncio
import gc
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.inputs.media import media
from models.inputs.media.media import MediaError
from service.access.keys import new_key
from service.middleware import Exchange
from service.predict.cores import Cores, Share
from service.predict.pipeline import WINDOWS_AHEAD
from service.threads.channel import Channel, T
from tests import loopback

from .lines import LINES, PAIN, WAIT_S, Tracker, gate_frames, lines_of, open_decoders, streamed

pytestmark = pytest.mark.usefixtures("no_signs_of_life")

Waiting = Callable[[], AbstractContextManager[None]]


@pytest.mark.parametrize("headers", [LINES, LINES | {"idempotency-key": "k"}], ids=["alone", "with a key"])
def test_the_first_window_is_read_before_the_last_frame_is_decoded(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, clips: Path, headers: dict[str, str]
) -> None:
    go_on, decoded = threading.Event(), []

    def gate(time_s: float, tick: Callable[[], None]) -> None:  # noqa: ARG001
        if time_s > 2.0:
            assert go_on.wait(WAIT_S)
        decoded.append(time_s)

    gate_frames(monkeypatch, gate)
    live = make_server(sandbox="off")
    with streamed(live, (clips / "face_noface.mov").read_bytes(), headers) as reply:
        lines = reply.iter_lines()
        start, first = json.loads(next(lines)), json.loads(next(lines))
        seen_by_then = max(decoded)
        go_on.set()
        rest = [json.loads(line) for line in lines]

    assert (start["type"], first["type"], first["start_s"]) == ("start", "window", 0.0)
    assert first["pain"] is not None
    assert seen_by_then < 2.0 < max(decoded)
    assert rest[-1]["type"] == "summary"


@pytest.mark.parametrize("headers", [LINES, LINES | {"idempotency-key": "k"}], ids=["alone", "with a key"])
@pytest.mark.parametrize("fails", [False, True], ids=["good", "failed"])
def test_who_has_read_the_last_line_may_ask_again(
    make_server: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    clips: Path,
    tmp_path: Path,
    eventually: Callable[..., None],
    headers: dict[str, str],
    fails: bool,
) -> None:
    """The place is free before it is sent, and the API key in the same turn of the event loop."""
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 0.0)
    monkeypatch.setattr("service.predict.predict.WATCH_AFTER_S", 0.0)
    token, key = new_key("ward", 1)
    (tmp_path / "keys").write_text(key.line())
    live = make_server(api_keys_file=tmp_path / "keys")
    at_work: list[tuple[str, int]] = []
    send = Exchange.send

    async def noted(self: Exchange, message: Any) -> None:
        if self.context.task is not None and message["type"] == "http.response.body":
            (use,) = live.server.access.keys.uses.values()
            before = live.server.lifecycle.resources.admission.at_work
            if message.get("more_body"):
                at_work.append(("before the end", before))
            else:
                at_work.append(("at the end", before))
                asyncio.get_running_loop().call_soon(lambda: at_work.append(("of the key", use.at_work)))
        await send(self, message)

    monkeypatch.setattr(Exchange, "send", noted)
    video = (clips / ("no_face.mp4" if fails else "single_face.mp4")).read_bytes()
    with streamed(live, video, headers | {"authorization": f"Bearer {token}"}) as reply:
        reply.read()
    eventually(lambda: at_work[-1][0] == "of the key")

    assert lines_of(reply)[-1]["type"] == ("error" if fails else "summary")
    assert set(at_work[:-2]) == {("before the end", 1)}
    assert at_work[-2:] == [("at the end", 0), ("of the key", 0)]


@pytest.mark.parametrize(
    ("refused", "types"),
    [(False, ["start", "window", "window", "summary"]), (True, ["error"])],
    ids=["good", "refused"],
)
def test_bytes_that_belong_to_the_first_line_come_while_it_waits_for_a_decoder(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, clips: Path, refused: bool, types: list[str]
) -> None:
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 0.0)
    monkeypatch.setattr("service.predict.ndjson.PROGRESS_S", 0.01)
    is_free = threading.Event()

    def wait() -> Any:
        assert is_free.wait(WAIT_S)
        if refused:
            raise MediaError("too_large", "the recording has 99 streams; at most 16 are accepted")
        return media

    open_decoders(monkeypatch, wait)
    live = make_server(sandbox="off")
    with streamed(live, (clips / "single_face.mp4").read_bytes()) as reply:
        pieces = reply.iter_raw()
        waiting = b"".join(next(pieces) for _ in range(3))
        is_free.set()
        text = waiting + b"".join(pieces)

    assert (reply.status_code, waiting.strip(b" ")) == (200, b"")
    assert len(waiting) >= 3
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["type"] for line in lines if line["type"] != "progress"] == types


@pytest.mark.parametrize("headers", [{}, LINES], ids=["whole", "lines"])
def test_ten_minutes_take_the_memory_of_a_few_windows(
    client: TestClient,
    tracker: type[Tracker],
    long_film: bytes,
    headers: dict[str, str],
    eventually: Callable[..., None],
) -> None:
    reply = client.post(PAIN, files={"video": long_film}, data={"hop_s": "2"}, headers=headers)

    assert reply.status_code == 200
    assert tracker.made == 600
    samples_a_window = 2  # a frame a second
    assert tracker.peak <= samples_a_window * 3 * WINDOWS_AHEAD  # waiting to be computed, in batches, just computed
    eventually(lambda: gc.collect() >= 0 and tracker.alive == 0)  # the threads let go after they have told the result


def test_a_reader_who_does_not_read_stops_the_decoding(
    make_client: Callable[..., TestClient],
    tracker: type[Tracker],
    long_film: bytes,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
) -> None:
    full, reads = threading.Event(), threading.Event()
    send = Exchange.send

    class Watched(Channel[T]):
        def put(self, item: T, *, waiting: Waiting = nullcontext) -> None:
            if self.room.acquire(blocking=False):
                self.room.release()
            else:
                full.set()
            super().put(item, waiting=waiting)

    async def send_to_one_who_pauses(self: Exchange, message: Any) -> None:
        if self.context.task is not None and message["type"] == "http.response.body":
            await asyncio.to_thread(reads.wait, WAIT_S)
        await send(self, message)

    monkeypatch.setattr("service.predict.pipeline.Channel", Watched)
    monkeypatch.setattr(Exchange, "send", send_to_one_who_pauses)
    monkeypatch.setattr("service.lifecycle.available_cores", lambda: 1)
    client = make_client()
    cores = client.app.state.lifecycle.resources.pipeline.decoders.cores  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(client.post, PAIN, files={"video": long_film}, data={"hop_s": "2"}, headers=LINES)
        assert full.wait(WAIT_S)
        eventually(lambda: cores.free == 1)  # others may have it meanwhile
        decoded = tracker.made
        reads.set()
        lines = lines_of(asked.result())

    assert decoded <= 2 * (WINDOWS_AHEAD + 2)  # two frames a window: those on their way, and the one that has no room
    assert [line["type"] for line in lines if line["type"] != "progress"] == ["start", *["window"] * 300, "summary"]


def test_a_clip_is_answered_while_ten_minutes_are_decoded_on_every_core(
    make_client: Callable[..., TestClient],
    tracker: type[Tracker],  # noqa: ARG001 - sees a face everywhere
    long_film: bytes,
    face_clip: bytes,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
) -> None:
    begun, comes, shares, decoded = threading.Event(), threading.Event(), list[Share](), list[int]()
    monkeypatch.setattr("service.predict.cores.FIRST_STEP_S", WAIT_S)  # the film alone is long, and at once
    monkeypatch.setattr("service.predict.cores.TURN_S", 0.0)
    monkeypatch.setattr("service.lifecycle.available_cores", lambda: 1)
    share = Cores.share

    def noted(cores: Cores) -> Share:
        shares.append(share(cores))
        shares[-1].used_s = 0.0 if len(shares) > 1 else WAIT_S
        return shares[-1]

    def gate(time_s: float, _: Callable[[], None]) -> None:
        if begun.is_set():
            decoded.append(threading.get_ident())
        elif time_s >= 20.0:
            begun.set()
            assert comes.wait(WAIT_S)

    monkeypatch.setattr(Cores, "share", noted)
    gate_frames(monkeypatch, gate)
    client = make_client(sandbox="off")
    cores = client.app.state.lifecycle.resources.pipeline.decoders.cores  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as callers:
        film = callers.submit(client.post, PAIN, files={"video": long_film}, data={"hop_s": "2"}, headers=LINES)
        assert begun.wait(WAIT_S)
        clip = callers.submit(client.post, PAIN, files={"video": face_clip})
        eventually(lambda: len(cores.waiting) == 1)
        comes.set()
        answer = clip.result()

    assert answer.status_code == 200
    assert len(lines_of(film.result())) > 300
    of_the_clip = next(thread for thread in decoded if thread != decoded[-1])
    assert decoded.index(of_the_clip) < 7  # the film shows one frame at five sampled times


def test_a_client_that_leaves_in_mid_stream_frees_its_place_and_its_decoder(
    make_server: Callable[..., Any],
    tracker: type[Tracker],
    long_film: bytes,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    given_up: threading.Event,
) -> None:
    step = Tracker.step

    def held(*arguments: Any) -> Any:
        if Tracker.made >= 50:  # there are windows before
            assert given_up.wait(WAIT_S)
        return step(*arguments)

    monkeypatch.setattr(tracker, "step", held)
    live = make_server()
    resources = live.server.lifecycle.resources
    if resources.sandbox is None:
        pytest.skip("this system has no sandbox")
    with streamed(live, long_film, hop_s="0.12") as reply:
        assert json.loads(next(reply.iter_lines()))["type"] == "start"
    eventually(lambda: resources.admission.at_work == 0)
    eventually(lambda: gc.collect() >= 0 and tracker.alive == 0)

    metrics = loopback.get(f"http://127.0.0.1:{live.port}/metrics", timeout=60).text
    assert 'pkdot_decoder_exits_total{cause="cancelled"} 1.0' in metrics
    assert 'code="client_gone",status="499"' in metrics
    assert "pkdot_queue_items 0.0" in metrics
