"""What is sent, byte by byte: requests, forms, the frames of a WebSocket; and an input as it is kept."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

EDGE: Final = b"edge-4f1c"
FORM_TYPE: Final = "multipart/form-data; boundary=edge-4f1c"
MASK: Final = b"mask"
TEXT, BINARY, CLOSE = 1, 2, 8

Kind = Literal["media", "form", "head", "tensors", "stream", "route"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Ending = Literal["waits", "half-closes", "leaves"]


class Input(NamedTuple):
    """One connection's worth: what is sent on it, and how the client ends it.

    It `waits` for the answer; or it half-closes first, as what it sent may be no whole request; or it leaves. A
    stream's first piece is its handshake, whose answer is waited for.
    """

    kind: Kind
    pieces: tuple[bytes, ...]
    ending: Ending = "waits"
    intact: bool = True
    """Whether it is well-formed HTTP, or WebSocket: then every answer, too, must be as the contract says."""


class Field(NamedTuple):
    """One part of a form."""

    name: str
    content: bytes
    file_name: str | None = None
    headers: tuple[str, ...] = ()


def form(fields: Iterable[Field], edge: bytes = EDGE) -> bytes:
    """A form's body."""
    lines = []
    for field in fields:
        file = "" if field.file_name is None else f'; filename="{field.file_name}"'
        head = [f'Content-Disposition: form-data; name="{field.name}"{file}', *field.headers, "", ""]
        lines.append(b"--" + edge + b"\r\n" + "\r\n".join(head).encode("utf-8", "surrogateescape") + field.content)
    return b"\r\n".join([*lines, b"--" + edge + b"--\r\n"])


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request that is the only one of its connection."""
    given = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + body


def handshake(path: str, headers: Mapping[str, str]) -> bytes:
    """The request that begins a stream."""
    given = {
        "Host": "localhost",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "pkdot.v1",
        **headers,
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A client's frame (RFC 6455)."""
    size = len(payload)
    head = bytes([last << 7 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    else:
        head += bytes([0xFE]) + size.to_bytes(2, "big") if size < 1 << 16 else bytes([0xFF]) + size.to_bytes(8, "big")
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")


def said(message: object) -> bytes:
    """A text message."""
    return frame(TEXT, json.dumps(message).encode())


END: Final = said({"type": "end"})


def close(code: int = 1000) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


def frames(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of a server's whole frames, which are whole messages here; what is cut is left out."""
    at = 0
    while at + 2 <= len(received):
        opcode, size, at = received[at] & 15, received[at + 1], at + 2
        width = {126: 2, 127: 8}.get(size, 0)
        if width:
            size = int.from_bytes(received[at : at + width], "big")
        at += width
        if at + size > len(received):
            return
        yield opcode, received[at : at + size]
        at += size


def keep(folder: Path, name: str, given: Input, answer: bytes, why: Iterable[str]) -> Path:
    """Write an input down with what was wrong; `load` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = given._asdict() | {
        "why": list(why),
        "pieces": [base64.b64encode(piece).decode("ascii") for piece in given.pieces],
        "answer": answer.decode("utf-8", "backslashreplace"),
    }
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return path


def load(path: Path) -> Input:
    """What `keep` wrote."""
    record = json.loads(path.read_text(encoding="utf-8"))
    pieces = tuple(base64.b64decode(piece) for piece in record["pieces"])
    return Input(record["kind"], pieces, record["ending"], record["intact"])
