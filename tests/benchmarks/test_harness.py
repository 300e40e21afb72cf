"""What the benchmarks' figures rest on: the slope, the load program, memory and trees of processes."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are scripts, and no installed package

from benchmarks.harness import echo, load, processes
from benchmarks.harness.bundles import empty_bundle, largest
from benchmarks.harness.servers import ask, form, free_port, load_command, post
from benchmarks.soak import theil_sen
from models import bundle as bundle_format
from service.runtime.providers import Providers
from service.runtime.runner import GraphRunner


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that answers every request with 200 and two bytes."""
    port = free_port()
    with subprocess.Popen([sys.executable, echo.__file__, "--port", str(port)]) as server:
        while ask(port, post("/", b"x", {})) != 200:
            assert server.poll() is None
        yield port
        server.terminate()


def test_a_line_has_its_slope_whatever_a_few_outliers_do() -> None:
    times_s = np.arange(21.0)
    values = 3.0 * times_s + 7.0
    values[[3, 10, 17]] = 1e6
    assert theil_sen(list(times_s), list(values)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", True),
        (b"HTTP/1.1 200 OK\r\nContent-Len", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_an_answer_is_whole_once_its_body_has_come(answer: bytes, whole: bool) -> None:
    assert load.is_whole(bytearray(answer)) is whole


def test_a_summary_counts_what_ended_in_time() -> None:
    exchanges = [
        load.Exchange(200, 0.0, 0.0, 0.1),
        load.Exchange(200, 0.0, 0.0, 0.3),
        load.Exchange(200, 0.0, 0.0, 1.5),
        load.Exchange(503, 1.0, 1.001, 1.002),
        load.Exchange(504, 1.0, 1.001, 1.004),
        load.Exchange(200, 1.9, 1.9, 2.1),
    ]
    found = load.summary(exchanges, begin_s=0.0, end_s=2.0, deadline_s=1.0)
    assert found["statuses"] == {"200": 3, "503": 1, "504": 1}
    assert found["requests_per_s"] == pytest.approx(1.5)
    assert found["goodput_per_s"] == pytest.approx(1.0)
    assert found["p50_ms"] == pytest.approx(300.0)
    assert found["refusal_p50_ms"] == pytest.approx(3.0)
    assert (found["late_p50_ms"], found["late_p99_ms"]) == pytest.approx((0.0, 1.0))


# in a closed loop only what ends within the seconds is counted, so they have to be enough for one answer
@pytest.mark.parametrize("options", [{"concurrency": 3, "seconds": 5}, {"rate": 200, "seconds": 0.2}])
def test_the_load_program_counts_every_answer(echo_port: int, tmp_path: Path, options: dict[str, float]) -> None:
    request = tmp_path / "request"
    request.write_bytes(post("/", bytes(100_000), {}))
    command = load_command(echo_port, request, options)
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert set(found["statuses"]) == {"200"}
    assert 0 < found["requests"] <= found["answered"]
    assert found["answered"] == 40 if "rate" in options else found["answered"] >= 3


def test_an_answer_that_says_close_is_followed_by_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = []
    sleep = asyncio.sleep

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\nx")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def run() -> load.Load:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            made = load.Load("127.0.0.1", server.sockets[0].getsockname()[1], post("/", b"x", {}))

            async def until_answered_twice(_: float) -> None:
                while len(made.exchanges) < 2:
                    await sleep(0.01)

            # the load's own time is over after two answers, however long they take
            monkeypatch.setattr(asyncio, "sleep", until_answered_twice)
            await asyncio.wait_for(made.closed_loop(1, 0.2), 60)
        return made

    made = asyncio.run(run())
    assert len(made.exchanges) >= 2
    assert {one.status for one in made.exchanges} == {503}
    assert len(connections) >= len(made.exchanges)


def test_a_tree_holds_grandchildren_and_its_memory() -> None:
    allocate = "import os, sys; block = b'x' * 50_000_000; print(os.getpid(), flush=True); sys.stdin.read()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {allocate!r}])"
    command = [sys.executable, "-c", inner]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        tree = processes.descendants(os.getpid())
        assert {parent.pid, grandchild} <= tree
        assert grandchild in processes.descendants(parent.pid)
        used = processes.memory({grandchild})
        assert used.anonymous >= 50_000_000
        assert used.pss >= 50_000_000
        assert processes.anonymous_bytes({grandchild}) == pytest.approx(used.anonymous, rel=0.01)
        assert processes.cpu_seconds({grandchild}) > 0
        assert parent.stdin is not None
        parent.stdin.close()


def test_a_form_is_one_file_between_its_boundaries() -> None:
    body, headers = form("clip", "a.mp4", b"\x00\x01")
    boundary = headers["content-type"].partition("boundary=")[2].encode()
    assert body.startswith(b"--" + boundary + b"\r\n")
    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    assert b"\r\n\r\n\x00\x01\r\n--" in body


def test_the_empty_graph_gives_the_largest_byte_of_each_clip(tmp_path: Path) -> None:
    bundle = bundle_format.load(empty_bundle(tmp_path))
    graph = bundle.manifest.graphs[0]
    clips = np.zeros((2, *bundle.manifest.inputs.shape("face")), np.uint8)
    clips[1, 3, 50, 60, 2] = 217
    providers = Providers.choose(("CPUExecutionProvider",))
    runner = GraphRunner(bundle.file(graph.file), graph, providers=providers, intra_op_threads=1)
    np.testing.assert_array_equal(runner.run({"face": clips}), [[0.0], [217.0]])
    np.testing.assert_array_equal(largest(clips), [[0.0], [217.0]])


def test_the_graph_on_a_socket_computes_each_body_whatever_pieces_it_comes_in(tmp_path: Path) -> None:
    bundle = bundle_format.load(empty_bundle(tmp_path))
    computed = echo.computing(bundle.file(bundle.manifest.graphs[0].file))
    clip = np.zeros((10, 112, 112, 3), np.uint8)
    clip[3, 50, 60, 2] = 217
    request, sent = post("/", clip.tobytes(), {}), list[bytes]()
    reader = echo.Reader(computed)
    reader.connection_made(SimpleNamespace(write=sent.append))

    for piece in (request[:1000], request[1000:], request):
        reader.get_buffer(-1)[: len(piece)] = piece
        reader.buffer_updated(len(piece))

    answer = np.float32(217).tobytes()
    assert sent == [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + answer] * 2
