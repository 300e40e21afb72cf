"""Clients that have not said hello yet. They have no place among the streams, and a bound of their own."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from service.errors import Overloaded

T = TypeVar("T")
RETRY_AFTER_S: Final = 1
"""Who is sent away was only slow to say hello."""


class Newcomers:
    """At most `room` wait at once. Where one more comes, one who is silent makes room; the newcomer is never refused.

    That is the oldest one of the address that has the most. So silence keeps nobody out: it takes `room` others,
    between a client's handshake and its hello, to send it away, and these from other addresses each.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.waiting: dict[asyncio.Timeout, str] = {}
        """Addresses, in the order in which they came."""

    async def hear(self, hello: Coroutine[Any, Any, T], address: str, within_s: float) -> T:
        """What `hello` gives. Raises TimeoutError, Overloaded where room had to be made, and what `hello` raises."""
        patience = asyncio.timeout(within_s)
        try:
            async with patience:
                self.enter(patience, address)
                return await hello
        except TimeoutError:
            if patience in self.waiting:
                raise
            raise Overloaded(
                f"{self.room} clients have yet to say hello, as many as are allowed; begin another stream, and send "
                "its hello at once",
                RETRY_AFTER_S,
            ) from None
        finally:
            self.waiting.pop(patience, None)

    def enter(self, patience: asyncio.Timeout, address: str) -> None:
        if len(self.waiting) >= self.room:
            self.make_room()
        self.waiting[patience] = address

    def make_room(self) -> None:
        ((crowded, _),) = Counter(self.waiting.values()).most_common(1)
        oldest = next(one for one, address in self.waiting.items() if address == crowded)
        del self.waiting[oldest]
        if not oldest.expired():
            oldest.reschedule(0.0)
