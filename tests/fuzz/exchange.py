"""One input over a socket of its own, and what came back."""

import contextlib
import socket
import struct
import time
from typing import Final, NamedTuple

from .wire import CLOSE, Input, close, frames

STEP_S: Final = 0.01
"""Between the messages of a stream: sent all at once, most pictures would be passed over."""
FIRST_ANSWER_S: Final = 1.0
"""How long a client that will half-close waits for an answer first."""
LEAVES_AFTER_S: Final = 0.03
CHUNK_BYTES: Final = 1 << 16
RESET: Final = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """Every byte that came, and whether the service ended the connection, within how many seconds."""

    received: bytes
    ended: bool
    took_s: float
    refused: bool = False
    """Whether there was no connection at all."""


def exchange(port: int, given: Input, within_s: float) -> Answer:
    """Send the input, and read until the service closes, for at most `within_s`."""
    began_s = time.monotonic()
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=within_s)
    except OSError:
        return Answer(b"", False, time.monotonic() - began_s, refused=True)
    with connection:
        received, until_s = bytearray(), began_s + within_s
        with contextlib.suppress(OSError):  # refused while it was sent: the answer is there to read
            for number, piece in enumerate(given.pieces):
                connection.sendall(piece)
                if given.kind == "stream" and number == 0 and not shake_hands(connection, received, until_s):
                    break
                if given.kind == "stream":
                    time.sleep(STEP_S)
        if given.ending == "leaves":
            time.sleep(LEAVES_AFTER_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return Answer(bytes(received), True, time.monotonic() - began_s)
        ended = False
        if given.ending == "half-closes":
            ended = read(connection, received, min(until_s, time.monotonic() + FIRST_ANSWER_S))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        if given.kind == "stream" and given.intact and not ended:
            answer_close(connection, received, until_s)
        ended = ended or read(connection, received, until_s)
        return Answer(bytes(received), ended, time.monotonic() - began_s)


def shake_hands(connection: socket.socket, received: bytearray, until_s: float) -> bool:
    """Read the head of the answer; whether a stream has begun."""
    while b"\r\n\r\n" not in received:
        if until_s <= time.monotonic() or not (chunk := connection.recv(CHUNK_BYTES)):
            return False
        received += chunk
    return received.startswith(b"HTTP/1.1 101 ")


def answer_close(connection: socket.socket, received: bytearray, until_s: float) -> None:
    """Read up to the service's close frame, and answer it as a client should."""
    while time.monotonic() < until_s:
        _, _, rest = bytes(received).partition(b"\r\n\r\n")
        if any(opcode == CLOSE for opcode, _ in frames(rest)):
            with contextlib.suppress(OSError):
                connection.sendall(close())
            return
        if read(connection, received, min(until_s, time.monotonic() + STEP_S)):
            return


def read(connection: socket.socket, received: bytearray, until_s: float) -> bool:
    """Read until then; whether the service has ended the connection."""
    while (left_s := until_s - time.monotonic()) > 0:
        connection.settimeout(left_s)
        try:
            chunk = connection.recv(CHUNK_BYTES)
        except TimeoutError:
            return False
        except OSError:
            return True
        if not chunk:
            return True
        received += chunk
    return False
