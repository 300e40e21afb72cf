"""A whole process is asked things that can be told again; afterwards none of them is anywhere."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests import loopback

ROOT = Path(__file__).parents[3]
NAME = "JaneRoeBed4711.mov"
FIELD = "FieldOfJaneRoe"
VALUE = "ValueOfJaneRoe"
QUERY = "QueryOfJaneRoe"
COOKIE = "CookieOfJaneRoe"
ONCE = "OnceForJaneRoe"
NO_FILM = b"NoFilmOfJaneRoe" * 100
STEP = 997
"""One piece of a recording in so many bytes is looked for."""


class Collector(ThreadingHTTPServer):
    """Keeps the bytes of all spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keep)
        self.posts: list[bytes] = []


class Keep(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.posts.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


class Service(NamedTuple):
    """A process, and every place where it could keep something."""

    process: "subprocess.Popen[bytes]"
    url: str
    spool: Path
    cache: Path
    home: Path
    log: Path
    collector: Collector

    def stop(self) -> bytes:
        """End it, and return all that it has written or sent."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0
        kept = [file for folder in (self.spool, self.cache, self.home) for file in folder.rglob("*") if file.is_file()]
        assert kept == []
        assert self.collector.posts
        return b"".join([self.log.read_bytes(), *self.collector.posts])


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture(params=["text", "json"])
def service(request: pytest.FixtureRequest, bundles_folder: Path, tmp_path: Path, keys: Any) -> Iterator[Service]:
    places = [tmp_path / name for name in ("spool", "cache", "home")]
    for place in places:
        place.mkdir()
    (tmp_path / "token").write_text("TokenOfTheWard")
    command = [sys.executable, "-m", "service", "serve", "--bundles", str(bundles_folder), "--port", "0", "--json"]
    allow_dumps = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh"]
    with collecting() as collector, (tmp_path / "log").open("wb") as log:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(places[2]),
            "TMPDIR": str(places[2]),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PKDOT_SPOOL_DIR": str(places[0]),
            "PKDOT_CACHE_DIR": str(places[1]),
            "PKDOT_SPOOL_MEMORY_BYTES": "0",
            "PKDOT_API_KEYS_FILE": str(keys.file),
            "PKDOT_ADMIN_TOKEN_FILE": str(tmp_path / "token"),
            "PKDOT_LOG_FORMAT": request.param,
            "PKDOT_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "PKDOT_DRAIN_S": "0",
        }
        process = subprocess.Popen(
            allow_dumps + command, cwd=places[2], env=environment, stdout=subprocess.PIPE, stderr=log
        )
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield Service(process, url, *places, tmp_path / "log", collector)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Two seconds of noise that nobody else has."""
    samples = np.random.default_rng(4711).integers(-8000, 8000, 32_000, np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes(samples.tobytes())
    return file.getvalue()


def pieces(recording: bytes) -> list[bytes]:
    """Parts by which it can be told; long runs of one byte are in many files."""
    found = [recording[at : at + 16] for at in range(0, len(recording) - 16, STEP)]
    return [piece for piece in found if len(set(piece)) > 6]


def test_nothing_of_a_recording_and_no_secret_is_kept_or_told(
    service: Service, keys: Any, clips: Path, sound: bytes
) -> None:
    film = (clips / "face_noface.mov").read_bytes()
    headers = {"Authorization": f"Bearer {keys.free}", "Cookie": COOKIE}
    with loopback.Client(base_url=service.url, timeout=60, headers=headers) as client:
        answered = client.post(
            "/predict/valence-arousal",
            params={"patient": QUERY},
            headers={"Idempotency-Key": ONCE},
            files={"video": (NAME, film), "audio": ("JaneRoeBed4711.wav", sound)},
        )
        asked: list[dict[str, Any]] = [
            {"files": {"video": (NAME, film)}, "data": {"start_s": VALUE}},
            {"files": {"video": (NAME, film)}, "data": {FIELD: VALUE}},
            {"files": {"video": (NAME, film)}, "data": {"bundle": VALUE}},
            {"files": {"video": (NAME, NO_FILM)}},
            {"files": {"video": (NAME, film[: len(film) // 2] + NO_FILM)}},
            {"content": NO_FILM, "headers": {"Content-Type": f"text/plain; name={VALUE}"}},
            {"content": NO_FILM, "headers": {"Content-Type": "multipart/form-data; boundary=edge"}},
            {"files": {"video": (NAME, film)}, "headers": {"X-Request-Timeout": VALUE}},
            {"files": {"video": (NAME, film)}, "headers": {"X-Request-ID": f"{VALUE} and more"}},
        ]
        for request in asked:
            client.post("/predict/pain", **request)
        client.post("/v2/models/pain-test/infer", json={"inputs": [{"name": FIELD, "data": [VALUE]}], "id": VALUE})
        client.post("/admin/bundles/reload")
        client.get("/models", headers={"Authorization": f"Bearer {VALUE}"})
        client.post("/admin/bundles/reload", headers={"Authorization": "Bearer TokenOfTheWard"})
    told = service.stop()

    assert answered.status_code == 200
    assert told.count(b"/predict/pain") >= 2 * len(asked)  # a line of the log and a span each
    secrets = [keys.free, keys.limited, "TokenOfTheWard"]
    words = [NAME.partition(".")[0], FIELD, VALUE, QUERY, COOKIE, ONCE, "NoFilmOf", *secrets]
    assert [word for word in words if word.encode() in told] == []
    parts = [*pieces(film), *pieces(sound)]
    assert len(parts) > 50
    assert [piece for piece in parts if piece in told or repr(piece)[2:-1].encode() in told] == []


def test_an_upload_has_no_name_on_the_disk_and_ends_with_its_request(
    service: Service, keys: Any, clips: Path, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    film = (clips / "face_noface.mov").read_bytes()
    head = (
        "POST /predict/pain HTTP/1.1\r\nHost: test\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
        f"Authorization: Bearer {keys.free}\r\nContent-Length: {len(film) + 1000}\r\n\r\n"
        '--edge\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as connection:
        connection.sendall(head.encode() + film)
        eventually(lambda: len(spooled(service)) == 1)
        assert list(service.spool.iterdir()) == []
    eventually(lambda: spooled(service) == [])


def spooled(service: Service) -> list[str]:
    """What the process has open in its spool folder."""
    folder = Path(f"/proc/{service.process.pid}/fd")
    links = []
    for descriptor in folder.iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return [link for link in links if link.startswith(str(service.spool))]


def test_neither_the_service_nor_its_children_leave_a_dump(service: Service) -> None:
    parents = {int(stat.parent.name): parent_of(stat) for stat in Path("/proc").glob("[0-9]*/stat")}
    family = {service.process.pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more

    assert len(family) >= 2  # the service, and the zygote
    limits = {limits_of(process) for process in family}
    cores = [line.split()[4:6] for text in limits for line in text.splitlines() if line.startswith("Max core")]
    assert cores
    assert all(core == ["0", "0"] for core in cores)


def test_no_secret_is_in_the_arguments_or_the_environment(service: Service, keys: Any) -> None:
    shown = b"".join(Path(f"/proc/{service.process.pid}/{file}").read_bytes() for file in ("cmdline", "environ"))

    assert b"PKDOT_API_KEYS_FILE" in shown
    assert not any(secret in shown for secret in (keys.free.encode(), keys.limited.encode(), b"TokenOfTheWard"))


def parent_of(stat: Path) -> int:
    """The fourth field; the second, in brackets, may hold anything."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return 0


def limits_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/limits").read_text()
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return ""


@pytest.mark.parametrize("module", ["service.runtime.runner", "models.inputs.face.nets", "training.stages.export"])
def test_onnxruntime_reports_nothing_to_its_maker(module: str, tmp_path: Path) -> None:
    code = f"import {module}, onnxruntime; onnxruntime.SessionOptions()"
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": os.devnull}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True, capture_output=True)

    assert [file.name for file in tmp_path.rglob("*") if "onnxruntime" in str(file) or file.name == ".ses"] == []
