"""Messages between parent, zygote and child: JSON objects, one to a packet of a Unix socket, and open descriptors."""

import json
import socket
from collections.abc import Sequence
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 4096
TAKEN: Final = b"+"
"""The parent's word that it has emptied a slot."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends; packets keep their borders, so half a message cannot be sent."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = (), *, flags: int = 0) -> None:
    """Raises OSError: the other side has gone, or, with MSG_DONTWAIT, does not read."""
    socket.send_fds(end, [json.dumps(message).encode()], descriptors, flags)


def receive(end: socket.socket, descriptors: int) -> tuple[dict[str, Any], list[int]] | None:
    """A message from a side that is trusted, with at most so many descriptors; None where it has gone."""
    while True:
        data, came, _, _ = socket.recv_fds(end, MAX_MESSAGE_BYTES, descriptors)
        if not data:
            return None
        if data != TAKEN:
            return json.loads(data), came
