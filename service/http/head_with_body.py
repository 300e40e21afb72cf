"""A transport that sends the head of an answer together with the first of its body: one packet, and one system call."""

import asyncio
from typing import Any, Final

from service.http.closing import close

JOIN_BYTES: Final = 65_536
"""A larger piece of a body is sent by itself, since to join is to copy."""
INTERIM: Final = b"HTTP/1.1 1"
"""What a head begins with that no body follows."""


class HeadWithBody:
    """`transport`, as one answer after another is written to it; call `answered` behind each.

    ASGI has it so: nothing is sent before the first piece of the body is there, which may be empty.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.head = b""
        self.head_comes = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        if self.head_comes and not data.startswith(INTERIM):
            self.head, self.head_comes = data, False
        elif self.head and len(data) <= JOIN_BYTES:
            head, self.head = self.head, b""
            self.transport.write(head + data)
        else:
            self.flush()
            self.transport.write(data)

    def flush(self) -> None:
        if self.head:
            head, self.head = self.head, b""
            self.transport.write(head)

    def close(self) -> None:
        self.flush()
        close(self.transport)

    def answered(self) -> None:
        """The next that is written is a head again."""
        self.flush()
        self.head_comes = True
