"""Answers as JSON lines: each window when it is computed, one last line, and no more in memory than is on its way."""

import asyncio
import gc
import io
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import httpx2
import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from models.inputs.face.face import FaceObservation
from models.inputs.media import media
from models.inputs.media.media import Frame, MediaError
from service.access.keys import new_key
from service.middleware import Exchange
from service.predict.cores import Cores, Share
from service.predict.ndjson import wants_lines
from service.predict.pipeline import WINDOWS_AHEAD
from service.threads.channel import Channel, T
from tests import loopback

Waiting = Callable[[], AbstractContextManager[None]]
LINES = {"accept": "application/x-ndjson"}
PAIN = "/predict/pain"
AFFECT = "/predict/valence-arousal"
WAIT_S = 30.0


def lines_of(reply: httpx2.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.text.endswith("\n")
    return [json.loads(line) for line in reply.text.splitlines()]


def streamed(live: Any, video: bytes, headers: dict[str, str] = LINES, **fields: str) -> Any:
    """The answer of a real service, whose lines are read as they come."""
    url = f"http://127.0.0.1:{live.port}{PAIN}"
    return loopback.stream("POST", url, files={"video": video}, data=fields, headers=headers, timeout=60)


def gate_frames(monkeypatch: pytest.MonkeyPatch, gate: Callable[[float, Callable[[], None]], None]) -> None:
    """Where there is no sandbox: `gate(time_s, tick)` is called before the frame of each sampled time is given."""

    def frames_at(source: Any, times_s: Sequence[float], limits: Any, *, tick: Callable[[], None]) -> Iterator[Frame]:
        for time_s, frame in zip(times_s, media.frames_at(source, times_s, limits, tick=tick), strict=True):
            gate(time_s, tick)
            yield frame

    functions = {name: getattr(media, name) for name in ("probe", "sound_pieces", "decode_picture")}
    open_decoders(monkeypatch, lambda: SimpleNamespace(frames_at=frames_at, **functions))


def open_decoders(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> None:
    """Where there is no sandbox: each recording is decoded by what `make` gives."""

    @contextmanager
    def decoder(left_s: float) -> Iterator[Any]:  # noqa: ARG001 - as in_process
        yield make()

    monkeypatch.setattr("service.lifecycle.in_process", decoder)


class Tracker:
    """Sees a face everywhere, each with a crop that is known to be alive."""

    alive = peak = made = 0

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def step(self, time_s: float, rgb: np.ndarray, stretch: tuple[float, float]) -> tuple[FaceObservation, ...]:  # noqa: ARG002
        crop = np.full((112, 112, 3), 100, np.uint8)
        weakref.finalize(crop, self.died)
        Tracker.made += 1
        Tracker.alive += 1
        Tracker.peak = max(Tracker.peak, Tracker.alive)
        return (FaceObservation(0, time_s, (0, 0, 9, 9), 0.9, 0.0, 0.0, 0.0, 0.3, crop),)

    @staticmethod
    def died() -> None:
        Tracker.alive -= 1


@pytest.fixture(autouse=True)
def no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is; the test that wants them sets other times."""
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 600.0)
    monkeypatch.setattr("service.predict.ndjson.PROGRESS_S", 600.0)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[Tracker]:
    Tracker.alive = Tracker.peak = Tracker.made = 0
    monkeypatch.setattr("models.inputs.prepare.FaceTracker", Tracker)
    return Tracker


@pytest.fixture(scope="module")
def long_film() -> bytes:
    """Ten minutes, a small frame a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in range(600):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade % 256, np.uint8))))
        output.mux(stream.encode())
    return file.getvalue()


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
