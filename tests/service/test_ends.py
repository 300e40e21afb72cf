"""How the process ends, by a signal or by a lost device: what the log says of it, and with which exit code."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests import loopback

ROOT = Path(__file__).parents[2]
SERVE, LOSING = ["-m", "service"], [str(Path(__file__).with_name("losing.py"))]
WITHIN_S = 60
"""Generous: clients hold on for ten times as long."""
UPLOAD = (
    b"POST /predict/pain HTTP/1.1\r\nHost: test\r\nX-Request-Timeout: 600\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 100000000\r\n\r\n"
    b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
)
Eventually = Callable[[Callable[[], bool]], None]


class Service(NamedTuple):
    """A process, ready; `log` is the file of its stderr."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=WITHIN_S)

    def events(self) -> list[tuple[str, str]]:
        """Level and message of every line that `pkdot` wrote, requests' lines left out."""
        lines = re.findall(r"^\S+ \S+ ([A-Z]+) pkdot (.*)$", self.log.read_text(), re.MULTILINE)
        return [(str(level), str(message)) for level, message in lines]


@contextmanager
def serving(program: list[str], bundles: Path, log: Path, **environment: str) -> Iterator[Service]:
    command = [sys.executable, *program, "serve", "--bundles", str(bundles), "--port", "0", "--json"]
    given = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        yield Service(process, json.loads(process.stdout.readline())["url"], log)
    finally:
        process.kill()
        process.communicate()


def nines() -> tuple[bytes, bytes]:
    """Head and body of the request that takes the device with it."""
    voice = np.full((1, 64, 200), 9, np.float32)
    tensor = {"name": "voice", "shape": voice.shape, "datatype": "FP32"}
    text = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": voice.nbytes}}]}).encode()
    head = (
        b"POST /v2/models/affect-test/infer HTTP/1.1\r\nHost: test\r\nX-Request-Timeout: 600\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(text), len(text) + voice.nbytes)
    )
    return head, text + voice.tobytes()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or resets."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def in_flight(service: Service, task: str) -> Callable[[], bool]:
    wanted = f'requests_in_flight{{task="{task}"}} 1.0'
    return lambda: wanted in loopback.get(f"{service.url}/metrics", timeout=WITHIN_S).text


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("SIGTERM", "draining for 0.5 s, then the listening sockets close"),
        ("SIGINT", "the listening sockets close at once"),
    ],
)
def test_the_log_tells_of_a_clean_end_step_by_step(bundles_folder: Path, tmp_path: Path, name: str, what: str) -> None:
    with serving(SERVE, bundles_folder, tmp_path / "log", PKDOT_DRAIN_S="0.5") as service:
        service.process.send_signal(signal.Signals[name])
        assert service.process.wait(WITHIN_S) == 0

    assert service.events() == [
        ("INFO", "readiness: ready (before: starting)"),
        ("INFO", f"{name}: {what}"),
        ("INFO", "readiness: draining (before: ready)"),
        ("INFO", "the listening sockets are closed; predictions at work: 0"),
        ("INFO", "the service has ended, with exit code 0"),
    ]


def test_as_json_the_steps_are_objects_too(bundles_folder: Path, tmp_path: Path) -> None:
    with serving(SERVE, bundles_folder, tmp_path / "log", PKDOT_DRAIN_S="0.5", PKDOT_LOG_FORMAT="json") as service:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(WITHIN_S) == 0

    entries = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert [(entry["level"], entry["message"]) for entry in entries] == [
        ("INFO", "readiness: ready (before: starting)"),
        ("INFO", "SIGTERM: draining for 0.5 s, then the listening sockets close"),
        ("INFO", "readiness: draining (before: ready)"),
        ("INFO", "the listening sockets are closed; predictions at work: 0"),
        ("INFO", "the service has ended, with exit code 0"),
    ]


def test_who_is_given_up_at_the_end_is_told_to_come_again(
    bundles_folder: Path, tmp_path: Path, eventually: Eventually
) -> None:
    tensors_head, _ = nines()
    with (
        serving(SERVE, bundles_folder, tmp_path / "log", PKDOT_SLOW_UPLOAD_AFTER_S="600") as service,
        service.connect() as upload,
        service.connect() as tensors,
    ):
        upload.sendall(UPLOAD)
        tensors.sendall(tensors_head)
        eventually(in_flight(service, "pain"))
        eventually(in_flight(service, "valence-arousal"))
        service.process.send_signal(signal.SIGINT)
        eventually(lambda: "sockets are closed" in service.log.read_text())
        service.process.send_signal(signal.SIGINT)
        answers = [answer(connection) for connection in (upload, tensors)]
        assert service.process.wait(WITHIN_S) == 0

    heads, bodies = zip(*(reply.split(b"\r\n\r\n") for reply in answers), strict=True)
    told = "the service is ending, and gave this request up; send it again"
    assert [head.partition(b"\r\n")[0] for head in heads] == [b"HTTP/1.1 503 Service Unavailable"] * 2
    assert [b"connection: close" in head for head in heads] == [True, True]
    problem, error = map(json.loads, bodies)
    assert (problem["code"], problem["detail"], error) == ("not_ready", told, {"error": told})
    log = service.log.read_text()
    assert log.count(" 503 not_ready ") == 2
    assert "Traceback" not in log


@pytest.mark.parametrize("draining", [False, True])
def test_a_lost_device_ends_the_process_whatever_is_still_being_uploaded(
    bundles_folder: Path, tmp_path: Path, eventually: Eventually, draining: bool
) -> None:
    head, body = nines()
    quiet = {"PKDOT_SLOW_UPLOAD_AFTER_S": "600", "PKDOT_MAX_REQUEST_TIMEOUT_S": "600", "PKDOT_DRAIN_S": "0"}
    with (
        serving(LOSING, bundles_folder, tmp_path / "log", **quiet) as service,
        service.connect() as upload,
        service.connect() as losing,
    ):
        upload.sendall(UPLOAD)
        losing.sendall(head + body[:-10])
        eventually(in_flight(service, "pain"))
        eventually(in_flight(service, "valence-arousal"))
        if draining:
            service.process.send_signal(signal.SIGTERM)
            eventually(lambda: "sockets are closed" in service.log.read_text())
        losing.sendall(body[-10:])
        refused = answer(losing)
        code = service.process.wait(WITHIN_S)
        cut_off = answer(upload)

    assert (code, cut_off) == (1, b"")
    status, _, text = refused.partition(b"\r\n")
    assert status == b"HTTP/1.1 503 Service Unavailable"
    assert json.loads(text.partition(b"\r\n\r\n")[2])["error"] == (
        "the device of this service has failed; send the request again"
    )
    assert " 503 not_ready " in service.log.read_text()
    assert " POST /predict/pain 499 client_gone " in service.log.read_text()  # it ended as where a client leaves
    events = service.events()
    before = "draining" if draining else "ready"
    assert ("ERROR", "device 0 no longer computes: RuntimeError: CUDA failure 719") in events
    assert ("WARNING", f"readiness: failed (before: {before})") in events
    assert events[-1] == ("WARNING", "the service has ended, with exit code 1")


def test_a_lost_device_ends_the_process_although_something_in_it_never_ends(
    bundles_folder: Path, tmp_path: Path, eventually: Eventually
) -> None:
    token = "open-sesame"
    head, body = nines()
    with (
        serving(LOSING, bundles_folder, tmp_path / "log", PKDOT_ADMIN_TOKEN=token) as service,
        service.connect() as hanging,
        service.connect() as losing,
    ):
        hanging.sendall(b"POST /admin/bundles/reload HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n")
        hanging.sendall(b"Authorization: Bearer %s\r\n\r\n" % token.encode())
        eventually(lambda: "hanging" in service.log.read_text())
        losing.sendall(head + body)
        code = service.process.wait(WITHIN_S)

    assert code == 1
    assert service.events()[-1] == ("WARNING", "the service has ended, with exit code 1")
