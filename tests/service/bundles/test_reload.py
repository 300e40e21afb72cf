"""Bundles change while requests are answered: none is lost, and each is answered by one version or the other."""

import asyncio
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import ReloadRunning, UnreadableMedia
from service.settings import Settings
from tests import loopback

ROOT = Path(__file__).parents[3]
TOKEN = "open-sesame"
CALLERS = 3
PATIENCE_S = 60.0
BINARY = json.dumps(
    {"inputs": [{"name": "eda", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}
).encode()
"""What is remembered of a request, until its bundle goes."""
Open = Callable[[Settings], AbstractContextManager[Any]]
Write = Callable[..., str]
Eventually = Callable[[Callable[[], bool]], None]


def settings(folder: Path, **values: Any) -> Settings:
    return Settings.model_validate({"bundles": folder, "port": 0, "admin_token": TOKEN} | values)


def replace_bundle(write: Write, path: Path, gain: float, **values: Any) -> str:
    shutil.rmtree(path)
    return write(path, gain, **values)


class Load:
    """Callers that ask all the time, and what they were answered."""

    def __init__(self, call: Callable[[Any], Any], live: Any) -> None:
        self.stop = threading.Event()
        self.answers: list[tuple[str, float]] = []
        self.callers = ThreadPoolExecutor(CALLERS)
        self.running = [self.callers.submit(self.ask, call(live)) for _ in range(CALLERS)]

    def ask(self, caller: Any) -> None:
        while not self.stop.is_set():
            self.answers.append(caller.answer())

    def since(self, count: int) -> Callable[[], bool]:
        """Whether this many more answers have come than now."""
        wanted = len(self.answers) + count
        return lambda: len(self.answers) >= wanted or any(one.done() for one in self.running)

    def end(self) -> None:
        """Raises what a caller met."""
        self.stop.set()
        for one in self.running:
            one.result()
        self.callers.shutdown()


@contextmanager
def under_load(call: Callable[[Any], Any], live: Any) -> Iterator[Load]:
    load = Load(call, live)
    try:
        yield load
    finally:
        load.end()


def test_a_reload_under_load_loses_no_request(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open, eventually: Eventually
) -> None:
    gains = {write(tmp_path / "load", 1.0): 1.0}
    with open_server(settings(tmp_path)) as live, under_load(call, live) as load:
        for gain in (2.0, 3.0, 4.0):
            eventually(load.since(20))
            version = replace_bundle(write, tmp_path / "load", gain)
            gains[version] = gain
            assert call(live).reload().status_code == 200
            assert call(live).answer() == (version, 10 * gain)
        eventually(load.since(20))

    assert {version for version, _ in load.answers} == set(gains)
    assert all(value == 10 * gains[version] for version, value in load.answers)


def test_a_bad_bundle_is_refused_with_its_reason_and_answers_go_on(
    tmp_path: Path,
    write: Write,
    call: Callable[[Any], Any],
    open_server: Open,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # beside a reload and its callers the device's thread may wait long for a core, which is no stall of the device
    monkeypatch.setattr("service.batcher.batcher.STALL_MIN_S", PATIENCE_S)
    version = write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live, under_load(call, live) as load:
        replace_bundle(write, tmp_path / "load", 2.0, golden_gain=3.0)
        refused = call(live).reload()
        ready = call(live).client.get("/health/ready")
        eventually(load.since(20))

    assert (refused.status_code, refused.json()["code"]) == (422, "bundle_refused")
    assert "bundle load: eda.onnx: the golden output differs by 10" in refused.json()["detail"]
    assert ready.status_code == 200
    assert set(load.answers) == {(version, 10.0)}


def test_what_a_refusal_says_holds_no_path(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open
) -> None:
    write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live:
        shutil.rmtree(tmp_path / "load")
        refused = call(live).reload()

    assert refused.status_code == 422
    assert f"{tmp_path.name} holds no bundle" in refused.json()["detail"]
    assert str(tmp_path.parent) not in refused.text


def test_the_answer_tells_what_was_loaded_kept_and_removed(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open
) -> None:
    same, old, gone = (write(tmp_path / name, 1.0, name=name) for name in ("same", "changed", "gone"))
    with open_server(settings(tmp_path)) as live:
        lifecycle = live.server.lifecycle
        before = lifecycle.require().shelf
        new = replace_bundle(write, tmp_path / "changed", 2.0, name="changed")
        shutil.rmtree(tmp_path / "gone")
        reply = call(live).reload().json()
        after = lifecycle.require().shelf

    assert reply["loaded"] == [{"name": "changed", "version": new, "role": "bundle"}]
    assert reply["kept"] == [{"name": "same", "version": same, "role": "bundle"}]
    assert [(one["name"], one["version"]) for one in reply["removed"]] == [("changed", old), ("gone", gone)]
    assert reply["took_s"] > 0
    kept = [loaded for loaded in before.bundles if any(loaded is one for one in after.bundles)]
    assert [loaded.name for loaded in kept] == ["same"]


def test_a_request_at_work_finishes_on_the_old_bundle_which_is_then_freed_with_its_series(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open, eventually: Eventually
) -> None:
    old = write(tmp_path / "load", 1.0)
    body = json.dumps({"inputs": [{"name": "eda", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
    head = b"POST /v2/models/load/infer HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    # half of the body waits for a whole reload and for the collector
    with open_server(settings(tmp_path, slow_upload_after_s=10 * PATIENCE_S)) as live:
        lifecycle = live.server.lifecycle
        session = weakref.ref(next(iter(lifecycle.require().shelf.bundles[0].runners.values())))
        lifecycle.require().calls.understand(BINARY, lifecycle.require().shelf.bundles[0], max_batch=1)

        def freed() -> bool:
            gc.collect()
            return session() is None

        with socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head % len(body) + body[:10])
            eventually(lambda: lifecycle.require().admission.at_work == 1)
            new = replace_bundle(write, tmp_path / "load", 2.0)
            assert call(live).reload().status_code == 200
            assert call(live).answer() == (new, 20.0)
            assert not freed()
            connection.sendall(body[10:])
            late = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
        eventually(freed)
        eventually(lambda: f'version="{old}"' not in call(live).metrics())
        metrics = call(live).metrics()

    assert (json.loads(late)["model_version"], json.loads(late)["outputs"][0]["data"]) == (old, [10.0])
    for series in (
        f'pkdot_bundle_info{{name="load",version="{new}"}} 1.0',
        f'pkdot_batches_total{{bundle="load",outcome="ok",version="{new}"}} 1.0',
        f'pkdot_windows_total{{bundle="load",outcome="answered",task="regression",version="{new}"}} 1.0',
    ):
        assert series in metrics


def test_the_old_version_can_come_back(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open
) -> None:
    version = write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live:
        for gain in (2.0, 1.0):
            replace_bundle(write, tmp_path / "load", gain)
            assert call(live).reload().status_code == 200
            gc.collect()
        answer = call(live).answer()
        metrics = call(live).metrics()

    assert answer == (version, 10.0)
    assert f'pkdot_bundle_info{{name="load",version="{version}"}} 1.0' in metrics
    assert f'pkdot_batches_total{{bundle="load",outcome="ok",version="{version}"}} 1.0' in metrics


def test_two_reloads_do_not_run_at_once(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open
) -> None:
    write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live:
        reloader = live.server.lifecycle.require().reloader
        entered, leave = threading.Event(), threading.Event()
        read = reloader.reader.read

        def slow_read() -> Any:
            entered.set()
            assert leave.wait(PATIENCE_S)
            return read()

        reloader.reader.read = slow_read
        with ThreadPoolExecutor(1) as other:
            first = other.submit(call(live).reload)
            assert entered.wait(PATIENCE_S)
            second = call(live).reload()
            answered = call(live).answer()
            leave.set()
            assert first.result().status_code == 200

    assert (second.status_code, second.json()["code"]) == (409, "reload_running")
    assert second.json()["title"] == ReloadRunning.title
    assert answered[1] == 10.0


def test_a_bundle_that_serves_needs_its_files_no_longer(tmp_path: Path, write: Write, open_server: Open) -> None:
    write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live:
        resources = live.server.lifecycle.require()
        (loaded,) = resources.shelf.bundles
        shutil.rmtree(tmp_path / "load")
        asked = resources.pipeline.blame(loaded, loaded.bundle.manifest.graphs[0], time.monotonic() + PATIENCE_S)
        found = asyncio.run_coroutine_threadsafe(asked, resources.reloader.listener.get_loop()).result(PATIENCE_S)
        status = live.server.lifecycle.status()

    assert isinstance(found, UnreadableMedia)  # the golden input still runs, so the recording is at fault
    assert status == "ok"


def test_an_unexpected_failure_changes_nothing_either(
    tmp_path: Path, write: Write, call: Callable[[Any], Any], open_server: Open
) -> None:
    version = write(tmp_path / "load", 1.0)

    def broken() -> None:
        raise RuntimeError("the disk is on fire")

    with open_server(settings(tmp_path)) as live:
        reloader = live.server.lifecycle.require().reloader
        read, reloader.reader.read = reloader.reader.read, broken
        assert call(live).reload().json()["code"] == "internal"
        reloader.reader.read = read
        assert call(live).reload().status_code == 200
        assert call(live).answer() == (version, 10.0)


def test_a_signal_during_a_reload_is_answered_by_one_more(
    tmp_path: Path, write: Write, open_server: Open, eventually: Eventually
) -> None:
    write(tmp_path / "load", 1.0)
    with open_server(settings(tmp_path)) as live:
        lifecycle = live.server.lifecycle
        reloader = lifecycle.require().reloader
        entered, leave, reads = threading.Event(), threading.Event(), []
        read = reloader.reader.read

        def slow_read() -> Any:
            reads.append(1)
            entered.set()
            assert leave.wait(PATIENCE_S)
            return read()

        reloader.reader.read = slow_read
        loop: asyncio.AbstractEventLoop = reloader.listener.get_loop()
        loop.call_soon_threadsafe(lifecycle.reload_soon)
        assert entered.wait(PATIENCE_S)
        for _ in range(3):
            loop.call_soon_threadsafe(lifecycle.reload_soon)
        leave.set()
        eventually(lambda: len(reads) == 2 and not reloader.lock.locked() and not reloader.asked.is_set())

    assert len(reads) == 2


def test_sighup_reloads_a_real_process_and_a_bad_bundle_leaves_it_as_it_was(tmp_path: Path, write: Write) -> None:
    old = write(tmp_path / "bundles" / "load", 1.0)
    candidate = write(tmp_path / "next", 3.0)
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--bundles",
        str(tmp_path / "bundles"),
        "--port",
        "0",
        "--json",
    ]
    environment = os.environ | {"PKDOT_SANDBOX": "off", "PKDOT_CANARY": f"{tmp_path / 'next'}@0.25"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        line_with(process.stderr, rf"^pkdot: canary \(0\.25\): load {candidate}$")

        def listed() -> str:
            return str(loopback.get(f"{url}/models", timeout=PATIENCE_S).json()["models"][0]["version"])

        assert listed() == old
        new = replace_bundle(write, tmp_path / "bundles" / "load", 2.0)
        process.send_signal(signal.SIGHUP)
        line_with(process.stderr, f"bundles reloaded in .*loaded bundle load {new}; .*removed bundle load {old}")
        assert listed() == new
        replace_bundle(write, tmp_path / "bundles" / "load", 2.0, golden_gain=1.0)
        process.send_signal(signal.SIGHUP)
        line_with(process.stderr, "were not reloaded, the loaded ones go on: .*the golden output differs")
        assert listed() == new
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def line_with(stream: Any, pattern: str) -> None:
    """Read until a line matches."""
    for line in stream:
        if re.search(pattern, line):
            return
    pytest.fail(f"the log ended without {pattern}")
