"""What only a real connection shows: refusals before the tensors come, and clients that leave."""

import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from service.server import Server
from tests import loopback

HEADER = "inference-header-content-length"
PAIN = "/v2/models/pain/infer"


class LiveServer(Protocol):
    """What `live` gives."""

    @property
    def server(self) -> Server: ...

    @property
    def port(self) -> int: ...


def connect(live: LiveServer, head: bytes, content_bytes: int) -> socket.socket:
    """A request whose headers and JSON have been sent."""
    lines = [f"POST {PAIN} HTTP/1.1", "Host: test", f"{HEADER}: {len(head)}", f"Content-Length: {content_bytes}"]
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=60)
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + head)
    return connection


def request(rows: int, size: int) -> bytes:
    """JSON for `size` bytes of features."""
    tensor = {"name": "eda", "shape": [rows, 5], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [tensor]}).encode()


def samples(live: LiveServer) -> dict[str, str]:
    text = loopback.get(f"http://127.0.0.1:{live.port}/metrics", timeout=60).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")


@pytest.mark.parametrize(("rows", "size"), [(1, 100_000_000), (5_000_000, 100_000_000)], ids=["size", "batch"])
def test_what_cannot_be_right_is_refused_before_the_tensor_comes(live: LiveServer, rows: int, size: int) -> None:
    head = request(rows, size)
    with connect(live, head, len(head) + size) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 422 " if rows == 1 else b"HTTP/1.1 413 ")


def test_a_client_that_leaves_while_it_sends_frees_its_place_and_is_counted(
    live: LiveServer, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    resources: Any = live.server.lifecycle.resources
    head = request(1000, 20_000)
    with connect(live, head, len(head) + 20_000):
        eventually(lambda: resources.admission.at_work == 1)
    eventually(lambda: resources.admission.at_work == 0)

    found = samples(live)
    assert found['pkdot_cancelled_total{stage="upload"}'] == "1.0"
    assert found["pkdot_spool_bytes"] == "0.0"


def test_a_client_that_leaves_the_queue_takes_its_windows_along(
    live: LiveServer, eventually: Callable[[Callable[[], bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources: Any = live.server.lifecycle.resources
    (runner,) = next(loaded.runners for loaded in resources.shelf.bundles if loaded.name == "pain").values()
    run_checked, entered, go = runner.run_checked, threading.Event(), threading.Event()

    def wait(inputs: Any, *_: object) -> Any:
        entered.set()
        assert go.wait(60)
        return run_checked(inputs)

    monkeypatch.setattr(runner, "run_checked", wait)
    monkeypatch.setattr("service.batcher.quick.QUICK_S", 0.0)  # or the event loop would wait itself
    head = request(100, 2000)
    try:
        with connect(live, head, len(head) + 2000) as connection:
            connection.sendall(bytes(2000))
            assert entered.wait(60)
            assert resources.batcher.queue_items > 0
        eventually(lambda: resources.batcher.queue_items == 0)
        eventually(lambda: resources.admission.at_work == 0)
    finally:
        go.set()

    assert samples(live)['pkdot_cancelled_total{stage="queue"}'] == "1.0"
