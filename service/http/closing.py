"""Closing connections whose clients may never take what was written to them."""

import asyncio
from typing import Any, Final

UNREAD_S: Final = 30.0
"""A client that takes nothing for so long is given up: its recording may keep a decoder from others."""


def close(transport: asyncio.Transport) -> None:
    """Close it behind what was written, or without the rest of that where it has not left `UNREAD_S` later.

    The system would wait for ever for a client that is there but takes nothing, and so would a service that drains.
    """
    if transport.is_closing():
        return
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(UNREAD_S, transport.abort)


class ClosedInTime:
    """A transport that is closed so."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def close(self) -> None:
        close(self.transport)
