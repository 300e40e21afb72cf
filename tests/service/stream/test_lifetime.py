"""How streams begin, stand side by side and end, and that nothing of them is left."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from service.access.keys import new_key
from service.settings import Settings
from tests import loopback

ROOT = Path(__file__).parents[3]
VIDEO = {"video": {"fps": 10}}


def busy_threads(live: Any) -> int:
    """Streams whose thread is at work; threads that have nothing to do are kept."""
    executor = live.server.streams.threads
    idle: int = executor._idle_semaphore._value
    return len(executor._threads) - idle


def children(live: Any) -> list[int]:
    """The decoders of the service, without the one that waits for a request."""
    sandbox = live.server.lifecycle.resources.sandbox
    if sandbox is None:
        return []
    waits = {forked.result().pid for forked in [sandbox.spare.next] if forked is not None}
    pid = sandbox.zygote.process.pid
    alive = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in alive if int(child) not in waits]


@pytest.mark.parametrize("way", ["end", "close", "vanish"])
def test_the_end_of_a_stream_frees_its_child_its_thread_and_its_place(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    metrics: Callable[[int], dict[str, float]],
    face_jpegs: list[bytes],
    way: str,
) -> None:
    live = make_server()
    with talk(live.port, "pain", VIDEO) as client:
        client.hear()
        for n, jpeg in enumerate(face_jpegs[:6]):
            client.picture(n / 10, jpeg)
        eventually(lambda: bool(children(live)) or live.server.lifecycle.resources.sandbox is None)
        assert metrics(live.port)["pkdot_streams"] == 1
        eventually(lambda: busy_threads(live) == 1)
        if way == "end":
            client.end()
        elif way == "vanish":
            client.socket.socket.shutdown(2)
    eventually(lambda: metrics(live.port)["pkdot_streams"] == 0)
    eventually(lambda: busy_threads(live) == 0)
    eventually(lambda: children(live) == [])


@pytest.mark.usefixtures("all_pictures_wait")
def test_two_streams_are_answered_side_by_side(
    live: Any,
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    face_jpegs: list[bytes],
    metrics: Callable[[int], dict[str, float]],
) -> None:
    with (
        talk(live.port, "pain", VIDEO) as first,
        talk(live.port, "valence-arousal", VIDEO) as second,
    ):
        assert first.hear()["request_id"] != second.hear()["request_id"]
        eventually(lambda: metrics(live.port)["pkdot_streams"] == 2)  # those of other tests may still be ending
        for n, jpeg in enumerate(face_jpegs):
            first.picture(n / 10, jpeg)
            second.picture(n / 10, jpeg)
        boxes = [[window["face_box"] for window in client.end()[0]] for client in (first, second)]

    assert boxes[0] == boxes[1]
    assert len(boxes[0]) == 2


def test_one_stream_too_many_is_refused_until_another_ends(
    make_server: Callable[..., Any],
    talk: Callable[..., Any],
    eventually: Callable[..., None],
    metrics: Callable[[int], dict[str, float]],
) -> None:
    live = make_server(max_streams=1)
    with talk(live.port, "pain", VIDEO) as client:
        client.hear()
        with talk(live.port, "pain", VIDEO) as late:
            (heard,), code = late.hear_all()
    eventually(lambda: metrics(live.port)["pkdot_streams"] == 0)

    assert (heard["problem"]["status"], heard["problem"]["code"], code) == (503, "overloaded", 4503)
    with talk(live.port, "pain", VIDEO) as client:
        assert client.hear()["type"] == "ready"


def test_a_stream_has_the_caller_s_id_and_a_line_in_the_log(
    live: Any, talk: Callable[..., Any], eventually: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pkdot.requests")
    with talk(live.port, "pain", VIDEO, additional_headers={"X-Request-ID": "bed-7"}) as client:
        assert client.hear()["request_id"] == "bed-7"
        assert client.socket.response.headers["x-request-id"] == "bed-7"
        client.end()
    eventually(lambda: any("request=bed-7" in record.getMessage() for record in caplog.records))

    (line,) = [record.getMessage() for record in caplog.records if "request=bed-7" in record.getMessage()]
    assert line.startswith("GET /stream/pain 101 ok ")


def test_the_token_of_the_hello_is_asked_for_where_keys_are_on(
    make_server: Callable[..., Any], talk: Callable[..., Any], tmp_path: Path
) -> None:
    token, key = new_key("ward-7", 1)
    file = tmp_path / "keys.txt"
    file.write_text(key.line() + "\n", encoding="utf-8")
    live = make_server(api_keys_file=file)
    ends = []
    for given in (None, "pk-wrong"):
        with talk(live.port, "pain", VIDEO | {"token": given}) as client:
            ends.append(client.hear_all())
    with talk(live.port, "pain", VIDEO | {"token": token}) as client:
        assert client.hear()["type"] == "ready"
        with talk(live.port, "pain", VIDEO | {"token": token}) as second:
            ends.append(second.hear_all())

    assert [(heard[0]["problem"]["code"], code) for heard, code in ends] == [
        ("unauthenticated", 4401),
        ("unauthenticated", 4401),
        ("rate_limited", 4429),
    ]


def test_a_stream_ends_with_its_key(
    make_server: Callable[..., Any], talk: Callable[..., Any], tmp_path: Path, face_jpegs: list[bytes]
) -> None:
    (token, key), (other_token, other) = new_key("ward-7"), new_key("ward-8")
    file = tmp_path / "keys.txt"
    file.write_text(f"{key.line()}\n{other.line()}\n")
    live = make_server(api_keys_file=file, admin_token="open-sesame")
    with (
        talk(live.port, "pain", VIDEO | {"token": token}) as ended,
        talk(live.port, "pain", VIDEO | {"token": other_token}) as going_on,
    ):
        assert (ended.hear()["type"], going_on.hear()["type"]) == ("ready", "ready")
        file.write_text(other.line())
        reload = f"http://127.0.0.1:{live.port}/admin/bundles/reload"
        assert loopback.post(reload, headers={"authorization": "Bearer open-sesame"}, timeout=60).status_code == 200
        for stream in (ended, going_on):
            stream.picture(0.0, face_jpegs[0])
        heard, code = ended.hear_all()
        windows, _ = going_on.end()

    assert (code, heard[-1]["problem"]["code"]) == (4401, "unauthenticated")
    assert len(windows) == 1


def test_a_bug_is_told_as_one_and_ends_only_its_stream(
    make_server: Callable[..., Any], talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, face_jpegs: list[bytes]
) -> None:
    live = make_server()
    with monkeypatch.context() as patch:
        patch.setattr("service.stream.session.FaceTracker.step", lambda *_: 1 / 0)
        with talk(live.port, "pain", VIDEO) as client:
            client.hear()
            with contextlib.suppress(ConnectionClosed):  # the stream may end while later ones are being sent
                for n, jpeg in enumerate(face_jpegs[:6]):
                    client.picture(n / 10, jpeg)
            (heard,), code = client.hear_all()

    assert (heard["problem"]["code"], code) == ("internal", 4500)
    with talk(live.port, "pain", VIDEO) as client:
        assert client.hear()["type"] == "ready"


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`pkdot serve` as its own process, ready, and its port."""
    command = [sys.executable, "-m", "service", "serve", "--bundles", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(json.loads(process.stdout.readline())["url"].rpartition(":")[2].strip("/"))
    finally:
        process.kill()
        process.communicate()


def test_sigterm_closes_streams_with_1001_and_new_ones_too(
    bundles_folder: Path, talk: Callable[..., Any], face_jpegs: list[bytes]
) -> None:
    with serving(bundles_folder, PKDOT_DRAIN_S="60") as (process, port):
        with talk(port, "pain", VIDEO) as client, talk(port, "pain") as silent:
            client.hear()
            for n, jpeg in enumerate(face_jpegs[:6]):
                client.picture(n / 10, jpeg)
            process.send_signal(signal.SIGTERM)
            assert client.hear_all()[1] == 1001
            with talk(port, "pain", VIDEO) as late:
                assert late.hear_all() == ([], 1001)
            assert loopback.get(f"http://127.0.0.1:{port}/health/live", timeout=60).status_code == 200
            process.send_signal(signal.SIGTERM)  # the pause has been long enough
            assert silent.hear_all()[1] in {1001, 4408}

        assert process.wait(60) == 0


@pytest.mark.parametrize("reads", [True, False])
def test_ctrl_c_does_not_wait_for_streams(bundles_folder: Path, talk: Callable[..., Any], reads: bool) -> None:
    with serving(bundles_folder, PKDOT_DRAIN_S="30") as (process, port), talk(port, "pain", VIDEO) as client:
        client.hear()
        process.send_signal(signal.SIGINT)
        if reads:
            assert client.hear_all() == ([], 1001)

        assert process.wait(25) == 0  # a stream without media ends after 30 s


def test_a_thread_that_is_no_longer_needed_is_not_kept_by_a_closed_app(
    bundles_folder: Path, open_server: Callable[..., Any], talk: Callable[..., Any]
) -> None:
    with open_server(Settings(bundles=bundles_folder, port=0)) as live, talk(live.port, "pain", VIDEO) as client:
        client.hear()
        client.end()

    assert not [thread for thread in live.server.streams.threads._threads if thread in threading.enumerate()]
