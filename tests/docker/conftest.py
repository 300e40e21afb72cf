"""Two real replicas behind a real HAProxy on the loopback, with a DNS server that knows them."""

import csv
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests import loopback

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 300.0
REPLICAS = ("127.0.0.2", "127.0.0.3")
"""A records carry no port, so replicas differ by address."""
WORKING = ("replicas", "UP", "L7OK")
PATIENT = {"PKDOT_DRAIN_S": "10", "PKDOT_REQUEST_TIMEOUT_S": "600", "PKDOT_MAX_QUEUE_S": "600"}
"""On a slow machine, too, the balancer sees in time that a replica is about to go, and no request is refused."""


class Fleet:
    """The processes of one test, by address, and where the balancer listens."""

    def __init__(self, url: str, port: int, statistics: int, start: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
        self.url = url
        self.port = port
        self.statistics = statistics
        self.start = start
        self.replicas = {address: start(address) for address in REPLICAS}

    def wait_until_ready(self) -> None:
        for address in REPLICAS:
            wait_until(lambda address=address: ready(f"http://{address}:{self.port}"))  # type: ignore[misc]

    def restart(self, address: str) -> None:
        """Stop a replica as an orchestrator does, and start another in its place; over once it is given work."""
        self.replicas[address].terminate()
        assert self.replicas[address].wait(timeout=READY_TIMEOUT_S) == 0
        self.replicas[address] = self.start(address)
        self.wait_until_ready()
        self.wait_until_taken_in()

    def wait_until_taken_in(self) -> None:
        """Until the balancer gives every replica work: it knows later than the replica itself that one is ready."""
        wait_until(lambda: taken_in(self.statistics) == len(REPLICAS))


def free_port(address: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def answer_dns(query: bytes) -> bytes:
    """Both replicas for any A question, nothing for any other (RFC 1035, section 4)."""
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    is_a = struct.unpack(">H", query[end + 1 : end + 3])[0] == 1
    records = [socket.inet_aton(address) for address in REPLICAS] if is_a else []
    head = query[:2] + struct.pack(">HHHHH", 0x8580, 1, len(records), 0, 0)
    return head + question + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + record for record in records)


@pytest.fixture
def dns() -> Iterator[int]:
    """The port of a DNS server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.2)
        stopping = threading.Event()

        def serve() -> None:
            while not stopping.is_set():
                try:
                    query, client = server.recvfrom(4096)
                except TimeoutError:
                    continue
                server.sendto(answer_dns(query), client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        stopping.set()
        thread.join()


@pytest.fixture
def fleet(bundles_folder: Path, dns: int, tmp_path: Path) -> Iterator[Fleet]:
    """Two replicas and the balancer, all ready; what still runs at the end is killed."""
    haproxy = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if haproxy is None:
        pytest.skip("needs HAProxy: apt-get install haproxy")
    port, public, statistics = free_port(REPLICAS[0]), free_port(), free_port()
    opened = tmp_path / "statistics.cfg"
    opened.write_text(f"global\n    stats socket ipv4@127.0.0.1:{statistics} level user\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **PATIENT}

    def start(address: str) -> "subprocess.Popen[bytes]":
        options = ("--bundles", str(bundles_folder), "--host", address, "--port", str(port))
        return subprocess.Popen([sys.executable, "-m", "pkdot", "serve", *options], env=environment)

    fleet = Fleet(f"http://127.0.0.1:{public}", port, statistics, start)
    balancer = subprocess.Popen(
        [haproxy, "-f", "docker/haproxy.cfg", "-f", opened],
        cwd=ROOT,
        env={
            **os.environ,
            "BALANCER_ADDRESS": f"127.0.0.1:{public}",
            "BALANCER_REPLICAS": f"replica.test:{port}",
            "BALANCER_DNS": f"127.0.0.1:{dns}",
        },
    )
    try:
        fleet.wait_until_ready()
        fleet.wait_until_taken_in()
        wait_until(lambda: ready(fleet.url))
        yield fleet
    finally:
        for process in (balancer, *fleet.replicas.values()):
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    try:
        return loopback.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def taken_in(port: int) -> int:
    """How many replicas the balancer gives work, by its statistics; 0 where it does not listen yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=READY_TIMEOUT_S) as connection:
            connection.sendall(b"show stat\n")
            rows = csv.DictReader(connection.makefile())
            return sum((row["# pxname"], row["status"], row["check_status"]) == WORKING for row in rows)
    except ConnectionError:
        return 0


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s, "did not happen in time"
        time.sleep(0.1)
