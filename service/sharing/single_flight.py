"""Equal work that is asked for at the same time is done once: whoever asks first does it, the others wait for it.

Nobody depends on another's fate. Where the one who does the work fails or is cancelled, one of the others takes over,
with means and a deadline of its own. Where its asker just leaves, the work goes on for the others. All on one event
loop, so nothing needs a lock.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from service.errors import ClientGone
from service.threads.offload import ended

T = TypeVar("T")


class Landed(NamedTuple, Generic[T]):
    """What came out, for all who waited."""

    value: T


class Asker(NamedTuple, Generic[T]):
    """One who asks. The work goes on for `linger_s` when the last asker has left."""

    work: Callable[[], Coroutine[Any, Any, T]]
    left: Callable[[], Coroutine[Any, Any, None]]
    """Ends when the asker has left."""
    linger_s: float = 0.0
    on_result: Callable[[T], None] = lambda _: None
    """Told what came out, also where the asker has left meanwhile."""
    on_joined: Callable[[bool], None] = lambda _: None
    """Told at once, and once, whether somebody else was already at it."""
    also: Callable[[], Hashable] = lambda: None
    """Names work whose result will do as well, where it is under way; it is not begun under this name."""


class SingleFlight(Generic[T]):
    """`run` for each asker; `key` says whose work is equal."""

    def __init__(self) -> None:
        self.flights: dict[Hashable, Flight[T]] = {}

    async def run(self, key: Hashable, asker: Asker[T]) -> T:
        """What the work gives, done by this asker or by another.

        Raises what the asker's own work raises, never what another's does, and ClientGone where the asker has left.
        However it ends, work that this asker began has ended before.
        """
        asker.on_joined(self.under_way(key, asker) is not None)
        leaving = asyncio.create_task(asker.left())
        try:
            while (flight := self.under_way(key, asker)) is not None:
                if (landed := await follow(flight, asker, leaving)) is not None:
                    return landed.value
            return await self.lead(key, asker, leaving)
        finally:
            leaving.cancel()
            await ended(leaving)

    def under_way(self, key: Hashable, asker: Asker[T]) -> "Flight[T] | None":
        return self.flights.get(asker.also()) or self.flights.get(key)

    def is_deserted(self, key: Hashable) -> bool:
        """Whether the work goes on though everybody who asked for it has left."""
        flight = self.flights.get(key)
        return flight is not None and flight.waiting == 0

    async def lead(self, key: Hashable, asker: Asker[T], leaving: "asyncio.Task[None]") -> T:
        flight = self.flights[key] = Flight[T]()
        working = asyncio.create_task(asker.work())
        flight.enter(asker)
        try:
            await first_of(working, leaving)
            if not working.done():
                flight.leave()
                await first_of(working, flight.unwanted)
            if leaving.done() or not working.done():
                raise ClientGone
            return working.result()
        finally:
            del self.flights[key]
            flight.land(working)
            working.cancel()
            await ended(working)


async def follow(flight: "Flight[T]", asker: Asker[T], leaving: "asyncio.Task[None]") -> Landed[T] | None:
    """What another's work gives; None where it failed or was cancelled."""
    flight.enter(asker)
    try:
        await first_of(flight.landed, leaving)
        if not flight.landed.done():
            raise ClientGone
        return flight.landed.result()
    finally:
        flight.leave()


async def first_of(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of them is done; leaves the others alone."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class Flight(Generic[T]):
    """Work under way, and those who want it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.landed: asyncio.Future[Landed[T] | None] = self.loop.create_future()
        self.unwanted: asyncio.Future[None] = self.loop.create_future()
        self.waiting = 0
        self.linger_s = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.listeners: list[Callable[[T], None]] = []

    def enter(self, asker: Asker[T]) -> None:
        self.waiting += 1
        self.linger_s = max(self.linger_s, asker.linger_s)
        self.listeners.append(asker.on_result)
        if self.timer is not None:
            self.timer.cancel()

    def leave(self) -> None:
        self.waiting -= 1
        if not self.waiting and not self.landed.done():
            self.timer = self.loop.call_later(self.linger_s, self.give_up)

    def give_up(self) -> None:
        if not self.unwanted.done():
            self.unwanted.set_result(None)

    def land(self, working: "asyncio.Task[T]") -> None:
        """Tell all who wait: what came out, or that nothing did."""
        right = working.done() and not working.cancelled() and working.exception() is None
        if self.timer is not None:
            self.timer.cancel()
        self.landed.set_result(Landed(working.result()) if right else None)
        for listener in self.listeners if right else ():
            listener(working.result())
