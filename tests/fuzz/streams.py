"""Live streams: hellos, pictures and sound in odd orders, damaged; now and then the frames around them, too."""

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from .mutations import ON_BYTES, damaged, number
from .trees import odd_tree
from .wire import BINARY, END, TEXT, Ending, Input, close, frame, handshake, said

PATHS: Final = ("/stream/pain", "/stream/valence-arousal")
STEP_US: Final = 200_000
JPEG, PCM = 1, 2
HELLO: Final[dict[str, Any]] = {
    "type": "hello",
    "token": None,
    "video": {"fps": 5},
    "audio": {"sample_rate": 16000, "channels": 1},
    "bundle": None,
    "hop_s": 0.5,
    "face": "largest",
}
ODD_HANDSHAKES: Final = (
    *(("Sec-WebSocket-Protocol", value) for value in ("", "pkdot.v2", "pkdot.v1, x", ",", "\xe9")),
    *(("Sec-WebSocket-Key", value) for value in ("", "short", "\xff")),
    *(("Sec-WebSocket-Version", value) for value in ("", "8", "99")),
    *(("Origin", value) for value in ("null", "http://evil.example", "http://localhost", "\xff")),
    *(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"), ("Connection", "close")),
)
ODD_TEXTS: Final = (
    *("", "{}", "[]", "null", '{"type": "end"}', '{"type": "end", "x": 1}', '{"type": "hello"}', "[" * 100_000, "nan"),
    *(
        '{"type": "bye"}',
        "\0",
        '{"a": 1e999}',
        '{"type": "end"',
        '"' + "x" * 10_000 + '"',
        '{"type": "end", "type": 1}',
    ),
)


def stream(chance: Random, jpegs: Sequence[bytes], contents: Sequence[bytes]) -> Input:
    """A stream from its handshake to its end."""
    headers = dict([chance.choice(ODD_HANDSHAKES)]) if chance.random() < 0.06 else {}
    hello = {**HELLO, **chance.choice(({}, {"audio": None}, {"video": None}, {"face": "all"}, {"hop_s": 0.1}))}
    if chance.random() < 0.2:
        hello = odd_tree(chance, hello)
    kinds = [kind for kind, name in ((JPEG, "video"), (PCM, "audio")) if hello.get(name) or chance.random() < 0.02]
    frames = [said(hello), *media(chance, kinds, jpegs, contents)]
    if chance.random() < 0.2:
        frames = disordered(chance, frames)
    ended = chance.random() < 0.75
    intact = not headers
    if frames and chance.random() < 0.12:
        at, intact = chance.randrange(len(frames)), False
        frames[at] = chance.choice((*ON_BYTES, odd_frame))(chance, frames[at])
    frames.append(END if ended else close(chance.choice((1000, 1000, 1001, 4000, 0, 65535))))
    ending: Ending = "leaves" if chance.random() < 0.03 else "waits" if intact else "half-closes"
    return Input("stream", (handshake(chance.choice(PATHS), headers), *frames), ending, intact)


def media(chance: Random, kinds: Sequence[int], jpegs: Sequence[bytes], contents: Sequence[bytes]) -> list[bytes]:
    """Messages of pictures and sound, each a step of time after the one before."""
    frames, time_us = [], chance.choice((0, 0, 1, 1 << 40, (1 << 64) - 1))
    harm = chance.choice((0.0, 0.1, 0.6))
    for _ in range(chance.choice((0, 3, 12, 20)) if kinds else 0):
        kind = chance.choice(kinds)
        if kind == JPEG:
            payload = chance.choice(jpegs)
            payload = damaged(chance, payload, contents) if chance.random() < harm else payload
        else:
            payload = chance.randbytes(2 * STEP_US * 16_000 // 1_000_000)
            payload = payload[:-1] if chance.random() < 0.02 else payload
        sent = struct.pack("<BQ", kind, time_us % (1 << 64)) + payload
        if chance.random() < 0.05 * harm:
            sent = chance.choice(ON_BYTES)(chance, sent)
        frames.append(frame(BINARY, sent))
        time_us += STEP_US if chance.random() > 0.05 * harm else chance.choice((-STEP_US, 0, 10**7, number(chance)))
    return frames


def disordered(chance: Random, frames: list[bytes]) -> list[bytes]:
    """Messages at the wrong place, twice, not at all, or that say nothing."""
    pick = chance.random()
    if pick < 0.3:
        chance.shuffle(frames)
    elif pick < 0.5:
        frames.insert(chance.randrange(len(frames) + 1), chance.choice(frames))
    elif pick < 0.6:
        frames.pop(0)
    else:
        frames.insert(chance.randrange(len(frames) + 1), frame(TEXT, chance.choice(ODD_TEXTS).encode()))
    return frames


def odd_frame(chance: Random, whole: bytes) -> bytes:
    """Frames that a client may not send, or would not."""
    return chance.choice(
        (
            frame(chance.randrange(16), chance.randbytes(8)),
            frame(TEXT, b"\xff\xfe"),
            frame(BINARY, b"\1", last=False) * chance.choice((1, 3)),
            frame(BINARY, b"\1", last=False) + frame(0, b"\2", last=False) * 2_000,
            frame(9, b"p" * 125) * 50 + whole,
            frame(9, b"p" * 126),
            bytes([0x82, 0xFF]) + b"\xff" * 8,
            bytes([0x82, 0x05]) + b"naked",
            bytes([whole[0] | chance.choice((0x40, 0x20, 0x10))]) + whole[1:],
            frame(8, b""),
            frame(8, b"\3"),
        )
    )


def hello_stream(hello: object) -> Input:
    """A stream that says this hello, and no more."""
    text = frame(TEXT, json.dumps(hello).encode("utf-8", "surrogatepass"))
    return Input("stream", (handshake(PATHS[0], {}), text, close()))
