"""Start one server, wait for its first answer, load it, and see what it used."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import processes
from benchmarks.harness.processes import Memory

LOAD: Final = Path(__file__).with_name("load.py")
START_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.01


class ServerFailedError(RuntimeError):
    """A server did not start, or stopped; the message holds the end of what it said."""


@dataclass(frozen=True)
class Program:
    """How to start a server, and one request that it answers with 200."""

    name: str
    port: int
    command: Sequence[str]
    request: bytes
    environment: Mapping[str, str]
    folder: Path


class Server:
    """A running server. This process has no other children while it runs but the load program."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program, self.port, self.log = program, program.port, log
        self.began_s = time.perf_counter()
        self.cold_start_s = 0.0
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                program.command,
                cwd=program.folder,
                env={**os.environ, **program.environment},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Ask until the answer is 200; keeps the time since the start."""
        while (status := ask(self.port, self.program.request)) != 200:
            if self.process.poll() is not None or time.perf_counter() - self.began_s > START_TIMEOUT_S:
                said = self.log.read_text(errors="replace")[-2000:]
                raise ServerFailedError(f"{self.program.name} does not answer (last status {status}): {said}")
            time.sleep(POLL_S)
        self.cold_start_s = time.perf_counter() - self.began_s

    def pids(self) -> set[int]:
        """The server's whole tree."""
        return processes.descendants(os.getpid())

    def memory(self) -> Memory:
        return processes.memory(self.pids())

    def load(self, request: bytes | None = None, **options: float) -> dict[str, Any]:
        """What the load program prints, and `cpu_s`: the seconds on a core that the server took for it.

        `options` are the load program's. Raises ServerFailedError where the server has stopped.
        """
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.program.request if request is None else request)
            file.flush()
            before_s = processes.cpu_seconds(self.pids())
            done = subprocess.run(load_command(self.port, Path(file.name), options), capture_output=True, text=True)
            cpu_s = processes.cpu_seconds(self.pids()) - before_s
        if done.returncode or self.process.poll() is not None:
            said = self.log.read_text(errors="replace")[-2000:]
            raise ServerFailedError(f"{self.program.name} under load: {done.stderr}{said}")
        return {**json.loads(done.stdout), "cpu_s": cpu_s}


def load_command(port: int, request: Path, options: Mapping[str, float]) -> list[str]:
    """The load program as its own process."""
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [sys.executable, str(LOAD), "--port", str(port), "--request", str(request), *given]


@contextlib.contextmanager
def serving(program: Program, cores: Sequence[int]) -> Iterator[Server]:
    """The server, ready; all of its processes have ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with processes.pinned(cores):
                server = Server(program, Path(folder) / "log")
            server.wait_until_ready()
            yield server
        finally:
            processes.end_all(os.getpid())


def ask(port: int, request: bytes) -> int:
    """The status of the answer to one request over a connection of its own; 0 where there was none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request)
            head = connection.recv(64)
    except OSError:
        return 0
    return int(head[9:12]) if head.startswith(b"HTTP/1.") else 0


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request's bytes.

    >>> post("/", b"ab", {"x": "1"})
    b'POST / HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-length: 2\\r\\nx: 1\\r\\n\\r\\nab'
    """
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def form(name: str, file_name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with one file."""
    boundary = "benchmark-boundary-7f3a"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode("ascii") + content + f"\r\n--{boundary}--\r\n".encode("ascii")
    return body, {"content-type": f"multipart/form-data; boundary={boundary}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
