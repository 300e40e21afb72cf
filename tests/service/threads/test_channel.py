import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.threads.channel import Abandoned, Channel


def test_items_come_in_order_and_never_more_than_there_is_room_for() -> None:
    put, answered, most = 0, 0, 0
    full = threading.Event()

    async def pass_on() -> list[int]:
        nonlocal answered
        channel = Channel[int](3)

        def work() -> None:
            nonlocal put, most
            for number in range(50):
                channel.put(number)
                put += 1
                most = max(most, put - answered)
                if put == 3:
                    full.set()

        taken: list[int] = []
        with ThreadPoolExecutor(1) as executor:
            working = asyncio.get_running_loop().run_in_executor(executor, work)
            working.add_done_callback(lambda _: channel.finish())
            await asyncio.to_thread(full.wait)  # else the loop might always be done before the thread has counted
            while items := await channel.take():
                taken += items
                answered += len(items)
                channel.done(len(items))
        return taken

    assert asyncio.run(pass_on()) == list(range(50))
    assert 1 <= most <= 3


def test_a_thread_that_waits_for_room_stops_when_nobody_waits_for_it() -> None:
    full = threading.Event()

    async def abandon() -> None:
        channel = Channel[int](1)

        def work() -> None:
            channel.put(0)
            full.set()
            channel.put(1)

        with ThreadPoolExecutor(1) as executor:
            working = asyncio.get_running_loop().run_in_executor(executor, work)
            await asyncio.to_thread(full.wait)
            channel.abandon()
            with pytest.raises(Abandoned):
                await working

    asyncio.run(abandon())


def test_what_is_told_is_heard_before_what_is_handed_over_later() -> None:
    async def listen() -> list[str]:
        channel, heard = Channel[str](2), []
        with ThreadPoolExecutor(1) as executor:
            await asyncio.get_running_loop().run_in_executor(
                executor, lambda: (channel.tell(heard.append, "told"), channel.put("handed over"))
            )
        return [*heard, *await channel.take()]

    assert asyncio.run(listen()) == ["told", "handed over"]
