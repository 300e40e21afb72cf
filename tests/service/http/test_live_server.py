"""What only a real connection shows: refusals before the upload, slow and vanishing clients, and the way out."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest

from models.inputs.face.face import FaceTracker
from service.server import Server
from tests import loopback

from ..predict.lines import WAIT_S, gate_frames

ROOT = Path(__file__).parents[3]
HEAD = (
    b"POST /predict/pain HTTP/1.1\r\nHost: test\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: %d\r\n%s\r\n"
)
PART = b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
END = b"\r\n--edge--\r\n"


class LiveServer(Protocol):
    """What `make_server` gives."""

    @property
    def server(self) -> Server: ...

    @property
    def port(self) -> int: ...


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        yield connection


def read_reply(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, file.read(int(headers.get("content-length", 0)))


def at_work(live: LiveServer) -> int:
    resources = live.server.lifecycle.resources
    return resources.admission.at_work if resources else 0


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(make_server: Callable[..., LiveServer]) -> None:
    live = make_server(max_upload_bytes=1000)
    with connected(live.port) as connection:
        connection.sendall(HEAD % (5000, b"Expect: 100-continue\r\n"))
        status, headers, body = read_reply(connection)

    assert (status, json.loads(body)["code"], headers["connection"]) == (413, "too_large", "close")


def test_an_upload_that_is_welcome_is_asked_for(make_server: Callable[..., LiveServer]) -> None:
    live = make_server()
    body = PART + b"not a video" + END
    with connected(live.port) as connection:
        connection.sendall(HEAD % (len(body), b"Expect: 100-continue\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert read_reply(connection)[0] == 415


def test_a_client_that_sends_on_can_still_read_its_refusal(make_server: Callable[..., LiveServer]) -> None:
    live = make_server(max_upload_bytes=1000)
    for _ in range(5):
        with connected(live.port) as connection:
            connection.sendall(HEAD % (50_000_000, b""))
            sent = 0
            try:
                while sent < 50_000_000:
                    sent += connection.send(b"x" * 65_536)
            except OSError:
                pass
            status, _, body = read_reply(connection)

        assert (status, json.loads(body)["code"]) == (413, "too_large")
        assert sent < 20_000_000


@pytest.mark.parametrize("by_the_gate", [False, True])
def test_a_client_that_sends_on_while_it_reads_is_not_reset_before_it_has_its_refusal(
    make_server: Callable[..., LiveServer], eventually: Callable[[Callable[[], bool]], None], by_the_gate: bool
) -> None:
    largest = 1 << 30 if by_the_gate else 1 << 20
    live = make_server(max_upload_bytes=largest, max_concurrent_requests=1, slow_upload_after_s=120)
    with connected(live.port) as holder, connected(live.port) as connection:
        if by_the_gate:
            holder.sendall(HEAD % (100_000, b"") + PART)
            eventually(lambda: at_work(live) == 1)
        connection.sendall(HEAD % (500_000_000, b""))
        connection.setblocking(False)
        while select.select([], [connection], [], 0.2)[1]:  # until nothing is taken any more
            connection.send(b"x" * 65_536)
        connection.setblocking(True)
        status, _, body = read_reply(connection)

    assert (status, json.loads(body)["code"]) == ((503, "overloaded") if by_the_gate else (413, "too_large"))


def test_no_address_swallows_a_large_body(make_server: Callable[..., LiveServer]) -> None:
    live = make_server()
    with connected(live.port) as connection:
        connection.sendall((HEAD % (5_000_000, b"")).replace(b"/predict/pain", b"/nothing") + b"x" * 100_000)
        status, headers, _ = read_reply(connection)
        begin = time.monotonic()
        assert connection.recv(1) == b""

    assert (status, headers["connection"]) == (404, "close")
    assert time.monotonic() - begin < 30  # an idle connection is kept for longer


def test_a_trickling_upload_gets_408_and_its_place_is_free(
    make_server: Callable[..., LiveServer],
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    live = make_server(slow_upload_after_s=0.3)
    with connected(live.port) as connection:
        connection.sendall(HEAD % (100_000, b"") + PART)
        status, _, body = read_reply(connection)

    assert (status, json.loads(body)["code"]) == (408, "upload_too_slow")
    eventually(lambda: at_work(live) == 0)


def test_a_full_house_is_refused_at_the_headers_until_a_place_is_free(
    make_server: Callable[..., LiveServer],
    eventually: Callable[[Callable[[], bool]], None],
    clips: Path,
) -> None:
    live = make_server(max_concurrent_requests=1, slow_upload_after_s=120)
    url = f"http://127.0.0.1:{live.port}/predict/pain"
    picture = {"frames": (clips / "single_face.jpg").read_bytes()}
    with connected(live.port) as holder:
        holder.sendall(HEAD % (100_000, b"") + PART)
        eventually(lambda: at_work(live) == 1)
        refused = loopback.post(url, files=picture, timeout=60)
    eventually(lambda: at_work(live) == 0)

    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert loopback.post(url, files=picture, timeout=60).status_code == 200


def test_the_budget_of_all_uploads_is_refused_at_the_headers(
    make_server: Callable[..., LiveServer], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    live = make_server(max_upload_bytes=3000, max_spool_bytes=3000, slow_upload_after_s=120)
    with connected(live.port) as first, connected(live.port) as second:
        first.sendall(HEAD % (2000, b"") + PART)
        eventually(lambda: at_work(live) == 1)
        second.sendall(HEAD % (2000, b"Expect: 100-continue\r\n"))
        status, headers, body = read_reply(second)

    assert (status, json.loads(body)["code"]) == (503, "overloaded")
    assert 1 <= int(headers["retry-after"]) <= 60


def test_headers_that_do_not_come_close_the_connection(
    make_server: Callable[..., LiveServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = make_server()
    with connected(live.port) as whole:
        whole.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
        assert read_reply(whole)[0] == 200
        monkeypatch.setattr("service.http.protocol.HEADERS_WITHIN_S", 0.3)
        with connected(live.port) as silent, connected(live.port) as half:
            half.sendall(b"GET /health/live HTTP/1.1\r\nHost: t")
            assert (rest(silent), rest(half)) == (b"", b"")
        whole.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
        assert read_reply(whole)[0] == 200


def rest(connection: socket.socket) -> bytes:
    """The next byte, or nothing at the end."""
    try:
        return connection.recv(1)
    except ConnectionResetError:  # a machine so busy that what was sent came behind the end
        return b""


@pytest.mark.parametrize("stage", ["upload", "decode"])
def test_a_client_that_leaves_frees_its_place_and_is_counted(
    make_server: Callable[..., LiveServer],
    eventually: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
    given_up: threading.Event,
    clips: Path,
    stage: str,
) -> None:
    decoding, step = threading.Event(), FaceTracker.step

    def held(*arguments: Any) -> Any:
        decoding.set()
        assert given_up.wait(WAIT_S)
        return step(*arguments)

    monkeypatch.setattr(FaceTracker, "step", held)
    live = make_server()
    body = PART + (clips / "face_noface.mov").read_bytes() + END
    with connected(live.port) as connection:
        connection.sendall(HEAD % (len(body), b"") + (body if stage == "decode" else PART))
        eventually(lambda: at_work(live) == 1)
        if stage == "decode":
            assert decoding.wait(WAIT_S)
    eventually(lambda: at_work(live) == 0)

    metrics = loopback.get(f"http://127.0.0.1:{live.port}/metrics", timeout=60).text
    assert f'pkdot_cancelled_total{{stage="{stage}"}} 1.0' in metrics
    assert 'code="client_gone",status="499"' in metrics
    assert "pkdot_spool_bytes 0.0" in metrics


def test_health_answers_at_once_while_recordings_are_decoded(
    make_server: Callable[..., LiveServer], monkeypatch: pytest.MonkeyPatch, clips: Path
) -> None:
    decoding, asked = threading.Event(), threading.Event()

    def busy(_: float, tick: Callable[[], None]) -> None:
        decoding.set()
        while not asked.is_set():
            tick()

    gate_frames(monkeypatch, busy)
    live = make_server(sandbox="off")
    video = (clips / "face_noface.mov").read_bytes()
    with loopback.Client(base_url=f"http://127.0.0.1:{live.port}", timeout=60) as client:

        def predict() -> int:
            return client.post("/predict/pain", files={"video": video}).status_code

        with ThreadPoolExecutor(2) as callers:
            replies = [callers.submit(predict) for _ in range(2)]
            try:
                assert decoding.wait(WAIT_S)
                answers = [client.get("/health/live").status_code for _ in range(20)]
                done = [reply.done() for reply in replies]
            finally:
                asked.set()

    assert [reply.result() for reply in replies] == [200, 200]
    assert (answers, done) == ([200] * 20, [False, False])  # however long these took, the decoding took longer


def test_an_idle_connection_is_kept_for_the_next_request(make_server: Callable[..., LiveServer], clips: Path) -> None:
    live = make_server()
    with loopback.Client(base_url=f"http://127.0.0.1:{live.port}", timeout=60) as client:
        for _ in range(2):
            reply = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()})
            assert "connection" not in reply.headers


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pkdot serve` as its own process, ready, and its address."""
    command = [sys.executable, "-m", "service", "serve", "--bundles", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


def test_sigterm_fails_readiness_first_then_finishes_what_is_at_work(
    bundles_folder: Path, clips: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    body = PART + (clips / "face_noface.mov").read_bytes() + END
    # so long that a busy machine gets as far as the late upload meanwhile
    with serving(bundles_folder, PKDOT_DRAIN_S="10", PKDOT_SLOW_UPLOAD_AFTER_S="120") as (process, url):
        assert get(f"{url}/health/ready").json() == {"status": "ok"}
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: get(f"{url}/health/ready").status_code == 503)
        with connected(int(url.rpartition(":")[2].strip("/"))) as late:
            late.sendall(HEAD % (len(body), b"") + body[:-10])
            eventually(lambda: 'requests_in_flight{task="pain"} 1.0' in get(f"{url}/metrics").text)
            eventually(lambda: not answers(url))
            late.sendall(body[-10:])
            status, headers, _ = read_reply(late)
        lasted_s = time.monotonic() - begin

        assert (status, headers["connection"]) == (200, "close")
        assert lasted_s > 10  # it was still at work when the sockets were closed
        assert process.wait(60) == 0


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_draining_but_not_what_is_at_work(
    bundles_folder: Path, clips: Path, eventually: Callable[[Callable[[], bool]], None], again: signal.Signals
) -> None:
    body = PART + (clips / "face_noface.mov").read_bytes() + END
    with serving(bundles_folder, PKDOT_DRAIN_S="600", PKDOT_SLOW_UPLOAD_AFTER_S="120") as (process, url):
        process.send_signal(signal.SIGTERM)
        eventually(lambda: get(f"{url}/health/ready").status_code == 503)
        assert get(f"{url}/health/live").status_code == 200
        with connected(int(url.rpartition(":")[2].strip("/"))) as connection:
            connection.sendall(HEAD % (len(body), b"") + body[:-10])
            eventually(lambda: 'requests_in_flight{task="pain"} 1.0' in get(f"{url}/metrics").text)
            process.send_signal(again)
            eventually(lambda: not answers(url))
            connection.sendall(body[-10:])
            assert read_reply(connection)[0] == 200

        assert process.wait(60) == 0


def get(url: str) -> httpx2.Response:
    return loopback.get(url, timeout=60)


def answers(url: str) -> bool:
    try:
        return get(f"{url}/health/live").status_code == 200
    except httpx2.TransportError:
        return False


def test_ctrl_c_stops_at_once(bundles_folder: Path) -> None:
    with serving(bundles_folder, PKDOT_DRAIN_S="600") as (process, _):
        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 0
