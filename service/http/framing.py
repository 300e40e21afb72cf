"""Where messages begin and end: which requests servers in a row may read differently, and answers as they are sent."""

from collections.abc import Iterable
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

DISCARD_BYTES: Final = 1 << 20
DISCARD_S: Final = 1.0
"""What is still read of a client that was refused: to close at once would reset the connection under its answer."""
CLOSE: Final = (b"connection", b"close")
BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%b"
)
HeaderList = list[tuple[bytes, bytes]]


class Refused(Exception):
    """Not a request that is answered. Raised within the parser, which reports it as an error in what it reads."""


def refuse_ambiguous(version: str, url: bytes, headers: HeaderList) -> None:
    """Refuse what names no host or several, is coded in a way that is not decoded here, or is of another HTTP."""
    hosts = encodings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            encodings += 1
            if value.lower() != b"chunked" or version != "1.1":
                raise Refused
    if version == "1.1":
        if hosts != 1 or encodings > 1:
            raise Refused
    elif version != "1.0" or hosts > 1:
        raise Refused
    if b"#" in url:
        raise Refused


def has_body(headers: HeaderList) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def is_short(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body's end is known, and near enough to read up to it."""
    return all(
        name != b"transfer-encoding" and (name != b"content-length" or int(value) <= DISCARD_BYTES)
        for name, value in headers
    )


def whole(status: int, headers: HeaderList, body: bytes) -> bytes:
    """An answer as it is sent."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[status] + lines + b"\r\n" + body
