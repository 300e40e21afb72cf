"""What a thread hands to the event loop piece by piece, and no faster than the loop is done with it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Abandoned(Exception):
    """Ends the work of a thread that nobody waits for."""


class Channel(Generic[T]):
    """At most `room` items are on their way: from `put`, in the thread, until the loop says that it is done with them.

    To be made on the event loop. `put`, `tell` and `check` belong to the thread, everything else to the loop.
    """

    def __init__(self, room: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.room = threading.Semaphore(room)
        self.abandoned = threading.Event()
        self.items: deque[T] = deque()
        self.news = asyncio.Event()
        self.finished = False

    def put(self, item: T, *, waiting: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Hand an item over, once there is room; meanwhile the thread is `waiting`. Raises Abandoned."""
        if not self.room.acquire(blocking=False):
            with waiting():
                self.room.acquire()
        self.check()
        self.tell(self.arrived, item)

    def tell(self, listener: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `listener` on the event loop, after what was handed over before."""
        self.loop.call_soon_threadsafe(lambda: listener(*args, **kwargs))

    def check(self) -> None:
        """Raises Abandoned where the loop no longer waits."""
        if self.abandoned.is_set():
            raise Abandoned

    def arrived(self, item: T) -> None:
        self.items.append(item)
        self.news.set()

    async def take(self) -> list[T]:
        """All that has come, at least one item; nothing once there will be no more."""
        while not self.items and not self.finished:
            self.news.clear()
            await self.news.wait()
        taken = [*self.items]
        self.items.clear()
        return taken

    def done(self, count: int) -> None:
        """So many of the items that were taken need no room any more."""
        self.room.release(count)

    def finish(self) -> None:
        """There will be no more."""
        self.finished = True
        self.news.set()

    def abandon(self) -> None:
        """Nobody waits any more: let the thread stop."""
        self.abandoned.set()
        self.room.release()
