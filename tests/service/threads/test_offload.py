import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.threads.offload import offload


def test_a_cancelled_caller_waits_until_the_thread_has_stopped() -> None:
    begun, stopped, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        stopped.wait(60)
        ended.set()

    async def cancel_while_working() -> None:
        with ThreadPoolExecutor(1) as executor:
            task = asyncio.create_task(offload(executor, work, stop=stopped.set))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()

    asyncio.run(cancel_while_working())


def test_work_that_has_not_begun_never_runs() -> None:
    release, ran = threading.Event(), threading.Event()

    async def cancel_while_queued() -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(release.wait, 60)
            task = asyncio.create_task(offload(executor, ran.set))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            release.set()
        assert not ran.is_set()

    asyncio.run(cancel_while_queued())


def test_what_the_work_raises_reaches_the_caller() -> None:
    async def fail() -> None:
        with ThreadPoolExecutor(1) as executor:
            await offload(executor, lambda: int("x"))

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(fail())
