"""A load program: one ready-made HTTP/1.1 request, sent again and again over connections that are kept alive.

python benchmarks/harness/load.py --port 8000 --request request.bin --concurrency 16 --seconds 5
python benchmarks/harness/load.py --port 8000 --request request.bin --rate 100 --seconds 5

Closed loop: every connection sends its next request once the last one is answered. Open loop: requests leave at a
fixed rate, whatever the answers do, and a latency begins when its request should have left; `late` tells how much of it
is this program's own. Prints one JSON object.
The time to build requests and to read answers is spared: it has the server's cores too.
"""

import argparse
import asyncio
import json
import resource
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np

SEND_BUFFER_BYTES: Final = 4 << 20
"""A whole clip goes to the kernel at once."""
END_OF_HEADERS: Final = b"\r\n\r\n"
END_OF_CHUNKS: Final = b"0\r\n\r\n"
OK: Final = 200
REFUSALS: Final = (429, 503, 504)
LOST: Final = 0
"""The status of a request whose connection ended before its answer."""


class Exchange(NamedTuple):
    """One answered request."""

    status: int
    began_s: float
    """When it should have left."""
    sent_s: float
    ended_s: float


class Connection(asyncio.Protocol):
    """One connection: at most one request at a time. `on_end(connection)` is called after each answer."""

    def __init__(self, request: bytes, exchanges: list[Exchange], on_end: Callable[["Connection"], None]) -> None:
        self.request, self.exchanges, self.on_end = request, exchanges, on_end
        self.answer = bytearray()
        self.busy = self.closed = False
        self.began_s = self.sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, began_s: float | None = None) -> None:
        """Send the request; its time begins at `began_s`, now if None."""
        self.sent_s = time.perf_counter()
        self.began_s = self.sent_s if began_s is None else began_s
        self.busy = True
        self.answer.clear()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if self.busy and is_whole(self.answer):
            self.end(int(self.answer[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature of a protocol
        self.closed = True
        if self.busy:
            self.end(LOST)

    def end(self, status: int) -> None:
        self.busy = False
        self.exchanges.append(Exchange(status, self.began_s, self.sent_s, time.perf_counter()))
        if b"connection: close" in self.answer[:2048].lower():
            self.closed = True
            self.transport.close()
        self.on_end(self)


def is_whole(answer: bytearray) -> bool:
    """Whether headers and body have come.

    >>> is_whole(bytearray(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok"))
    True
    """
    end = answer.find(END_OF_HEADERS)
    if end < 0:
        return False
    head = bytes(answer[:end]).lower()
    if (at := head.find(b"content-length:")) >= 0:
        return len(answer) - end - len(END_OF_HEADERS) >= int(head[at + 15 :].split(b"\r\n", 1)[0])
    return b"transfer-encoding: chunked" not in head or answer.endswith(END_OF_CHUNKS)


class Load:
    """One run against one server."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self.host, self.port, self.request = host, port, request
        self.exchanges: list[Exchange] = []
        self.running = True

    async def connect(self, on_end: Callable[[Connection], None]) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self.request, self.exchanges, on_end), sock=await self.open_socket()
        )
        return connection

    async def open_socket(self) -> socket.socket:
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, (self.host, self.port))
        return opened

    async def closed_loop(self, concurrency: int, seconds: float) -> None:
        """`concurrency` connections, each with one request at a time."""
        ended = asyncio.Event()
        atonce = set[asyncio.Task[None]]()

        async def renew() -> None:
            (await self.connect(go_on)).send()

        def go_on(connection: Connection) -> None:
            if not self.running:
                if not any(one.busy for one in connections):
                    ended.set()
            elif not connection.closed:
                connection.send()
            else:
                task = asyncio.get_running_loop().create_task(renew())
                atonce.add(task)
                task.add_done_callback(atonce.discard)

        connections = [await self.connect(go_on) for _ in range(concurrency)]
        for connection in connections:
            connection.send()
        await asyncio.sleep(seconds)
        self.running = False
        await ended.wait()

    async def open_loop(self, rate: float, seconds: float) -> None:
        """`rate` requests a second, over as many connections as that takes."""
        free: deque[Connection] = deque()
        pending = set[asyncio.Task[None]]()
        begin_s = time.perf_counter()
        for number in range(round(rate * seconds)):
            due_s = begin_s + number / rate
            if (left_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            while free and free[0].closed:
                free.popleft()
            if free:
                free.popleft().send(due_s)
            else:
                task = asyncio.create_task(self.send_anew(due_s, free.append))
                pending.add(task)
                task.add_done_callback(pending.discard)
        while len(self.exchanges) < round(rate * seconds):
            await asyncio.sleep(0.01)

    async def send_anew(self, due_s: float, on_end: Callable[[Connection], None]) -> None:
        try:
            (await self.connect(on_end)).send(due_s)
        except OSError:
            now_s = time.perf_counter()
            self.exchanges.append(Exchange(LOST, due_s, now_s, now_s))


def summary(exchanges: list[Exchange], begin_s: float, end_s: float, deadline_s: float) -> dict[str, Any]:
    """Counts and latencies of the requests that were answered between `begin_s` and `end_s`."""
    inside = [one for one in exchanges if begin_s <= one.ended_s <= end_s]
    statuses = [one.status for one in inside]
    answered_s = [one.ended_s - one.began_s for one in inside if one.status == OK]
    refused_s = [one.ended_s - one.began_s for one in inside if one.status in REFUSALS]
    late_s = [one.sent_s - one.began_s for one in inside]
    took_s = end_s - begin_s
    return {
        "seconds": took_s,
        "requests": len(inside),
        "requests_per_s": len(answered_s) / took_s,
        "goodput_per_s": sum(time_s <= deadline_s for time_s in answered_s) / took_s,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        **{f"p{q}_ms": percentile_ms(answered_s, q) for q in (50, 99)},
        **{f"refusal_p{q}_ms": percentile_ms(refused_s, q) for q in (50, 99)},
        **{f"late_p{q}_ms": percentile_ms(late_s, q) for q in (50, 99)},
    }


def percentile_ms(times_s: list[float], q: float) -> float | None:
    return float(np.percentile(times_s, q)) * 1000 if times_s else None


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    load = Load(arguments.host, arguments.port, arguments.request.read_bytes())
    begin_s = time.perf_counter()
    if arguments.rate:
        await load.open_loop(arguments.rate, arguments.seconds)
        end_s = max(one.ended_s for one in load.exchanges)
    else:
        await load.closed_loop(arguments.concurrency, arguments.seconds)
        end_s = begin_s + arguments.seconds
    result = summary(load.exchanges, begin_s, end_s, arguments.deadline)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return result | {"answered": len(load.exchanges), "load_cpu_s": used.ru_utime + used.ru_stime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--request", type=Path, required=True, help="file with the request's bytes, headers and body")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rate", type=float, help="requests a second; leaves the closed loop")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds in which an answer is worth something")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
