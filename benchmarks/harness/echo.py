"""The least that an HTTP server can do: read a request to its end, and answer. Shows what the load program can drive.

python benchmarks/harness/echo.py --port 8000
python benchmarks/harness/echo.py --port 8000 --model graph.onnx

With a graph each body is one clip for it, which is computed before anything else is read: what no server of that graph
can do better for a client that is alone.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.harness.bare import SHAPE, open_session

ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
BUFFER_BYTES: Final = 1 << 20
"""A request has to fit in."""

Answer = Callable[[memoryview], bytes]
"""A request's body to the answer's."""


class Reader(asyncio.BufferedProtocol):
    """One request after another, each of which begins where the last one ended."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.filled = 0
        self.head_bytes = self.whole_bytes = 0
        """Of the request that comes; 0 before its headers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the signature of a protocol
        return self.buffer[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if not self.whole_bytes:  # the load program sends headers and body at once
            head, found, _ = bytes(self.buffer[: self.filled]).partition(b"\r\n\r\n")
            self.head_bytes = len(head) + len(found)
            self.whole_bytes = self.head_bytes + int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if self.filled == self.whole_bytes:
            body = self.answer(self.buffer[self.head_bytes : self.whole_bytes])
            self.filled = self.whole_bytes = 0
            self.transport.write(ANSWER % (len(body), body))


def computing(model: Path) -> Answer:
    """The graph's first output for a body of one clip, in as many threads as there are cores."""
    session = open_session(model, len(os.sched_getaffinity(0)))
    fed, given = session.get_inputs()[0].name, session.get_outputs()[0].name

    def answer(body: memoryview) -> bytes:
        clip = np.frombuffer(body, np.uint8).reshape(1, *SHAPE)
        return bytes(session.run([given], {fed: clip})[0].tobytes())

    return answer


async def serve(port: int, answer: Answer) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Reader(answer), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, computing(arguments.model) if arguments.model else lambda _: b"ok"))


if __name__ == "__main__":
    main()
