"""Blocking work in a thread, which is over when the caller goes on: also when the caller was cancelled."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


async def offload(executor: Executor, work: Callable[[], T], *, stop: Callable[[], None] = lambda: None) -> T:
    """Run `work` in `executor`.

    When this is cancelled, work that has not begun never runs; for work that has, `stop` is called (it should make
    `work` return soon) and its end is awaited, so that what it reads can then be closed.
    """
    future = executor.submit(work)
    wrapped = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(wrapped)
    except asyncio.CancelledError:
        if not future.cancel():
            stop()
        await ended(wrapped)
        raise
    finally:
        del future, wrapped  # they hold what `work` raised, which holds this frame


async def ended(*futures: "asyncio.Future[Any]") -> None:
    """Wait until all are done, whatever happens meanwhile; what they raised counts as seen.

    To ask a cancelled one also makes it forget its CancelledError, whose frames would hold it, and all that it used.
    """
    while any(not future.done() for future in futures):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(futures)
    for future in futures:
        with contextlib.suppress(asyncio.CancelledError):
            future.exception()
