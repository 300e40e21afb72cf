"""The least that an HTTP server can do: read a request to its end, and answer. Shows what the load program can drive.

python benchmarks/harness/echo.py --port 8000
"""

import argparse
import asyncio
from typing import Final, cast

ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUFFER_BYTES: Final = 1 << 20


class Reader(asyncio.BufferedProtocol):
    """Counts bytes, and keeps none but the headers'."""

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER_BYTES)
        self.missing = 0
        """Bytes of the body that are still to come; 0 where headers are."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the signature of a protocol
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.missing:  # the load program sends headers and body at once
            end = self.buffer.index(b"\r\n\r\n", 0, nbytes) + 4
            head = bytes(self.buffer[:end]).lower()
            self.missing = end + int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        self.missing -= nbytes
        if not self.missing:
            self.transport.write(ANSWER)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Reader, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
