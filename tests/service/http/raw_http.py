"""HTTP written and read byte by byte: clients that no library would let be so rude."""

import contextlib
import socket
from collections.abc import Sequence
from typing import IO, NamedTuple

TIMEOUT_S = 60.0
"""Less than the service keeps an idle connection."""
URL = "/predict/pain"


class Reply(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def part(name: str, content: bytes, filename: str = "") -> bytes:
    """One part of a form whose boundary is `edge`."""
    file = f'; filename="{filename}"' if filename else ""
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


def post(body: bytes, *headers: str, path: str = URL, length: int | None = None) -> bytes:
    """A whole request; `length` is what it says of its body, where that is not true."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: test",
        "Content-Type: multipart/form-data; boundary=edge",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def talk(port: int, *pieces: bytes, half_close: bool = False) -> list[Reply]:
    """Send the pieces, and read answers until the service closes the connection; TimeoutError where it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        with contextlib.suppress(OSError):  # refused while it was sent: the answer is there to read
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return read_all(file)


def read_all(file: IO[bytes]) -> list[Reply]:
    """All answers; a connection that is reset behind the last one has ended too."""
    replies = []
    with contextlib.suppress(ConnectionResetError):
        while (reply := read_reply(file)) is not None:
            replies.append(reply)
    return replies


def read_reply(file: IO[bytes]) -> Reply | None:
    """The next answer; None at the end of the connection."""
    line = file.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while text := file.readline().strip().decode("latin-1"):
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    return Reply(int(line.split()[1]), headers, file.read(int(headers.get("content-length", 0))))


def statuses(replies: Sequence[Reply]) -> list[int]:
    return [reply.status for reply in replies]
