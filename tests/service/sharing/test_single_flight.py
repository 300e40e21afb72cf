import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ClientGone
from service.sharing.single_flight import Asker, SingleFlight

Timeless = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


async def never() -> None:
    await asyncio.Event().wait()


def after(seconds: float, value: str | Exception) -> Callable[[], Coroutine[Any, Any, str]]:
    async def work() -> str:
        await asyncio.sleep(seconds)
        if isinstance(value, Exception):
            raise value
        return value

    return work


def staying(seconds: float, value: str | Exception, **options: Any) -> Asker[str]:
    return Asker(after(seconds, value), never, **options)


def leaving(at_s: float, seconds: float, value: str | Exception, **options: Any) -> Asker[str]:
    async def left() -> None:
        await asyncio.sleep(at_s)

    return Asker(after(seconds, value), left, **options)


def test_all_who_ask_meanwhile_get_the_first_ones_result(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        told: list[bool] = []
        askers = [staying(1, name, on_joined=told.append) for name in "abc"]
        assert await asyncio.gather(*(flights.run("k", asker) for asker in askers)) == ["a", "a", "a"]
        assert told == [False, True, True]
        assert await flights.run("k", staying(1, "d")) == "d"

    timeless(check)


def test_other_keys_share_nothing(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        assert await asyncio.gather(*(flights.run(name, staying(1, name)) for name in "ab")) == ["a", "b"]

    timeless(check)


def test_a_failure_is_only_its_own_askers_and_another_takes_over(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        first = asyncio.create_task(flights.run("k", staying(1, OSError("mine"))))
        others = [asyncio.create_task(flights.run("k", staying(2, name))) for name in "bc"]
        with pytest.raises(OSError, match="mine"):
            await first
        assert await asyncio.gather(*others) == ["b", "b"]
        assert asyncio.get_running_loop().time() == 3

    timeless(check)


def test_a_cancelled_leader_stops_its_work_and_another_takes_over(timeless: Timeless) -> None:
    async def check() -> None:
        ends: list[str] = []

        async def work() -> str:
            try:
                await asyncio.sleep(10)
            finally:
                ends.append("ended")
            return "a"

        flights = SingleFlight[str]()
        first = asyncio.create_task(flights.run("k", Asker(work, never)))
        second = asyncio.create_task(flights.run("k", staying(2, "b")))
        await asyncio.sleep(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert ends == ["ended"]
        assert await second == "b"

    timeless(check)


def test_each_asker_has_its_own_deadline(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        first = asyncio.create_task(flights.run("k", staying(3, "a")))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await flights.run("k", staying(3, "b"))
        assert await first == "a"

    timeless(check)


def test_the_work_goes_on_for_others_when_its_asker_leaves(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        first = asyncio.create_task(flights.run("k", leaving(1, 5, "a")))
        second = asyncio.create_task(flights.run("k", staying(5, "b")))
        assert await second == "a"
        with pytest.raises(ClientGone):
            await first
        assert asyncio.get_running_loop().time() == 5

    timeless(check)


@pytest.mark.parametrize(("linger_s", "ends_s"), [(0, 1), (5, 6)])
def test_work_that_nobody_wants_ends_after_the_time_to_come_back(
    timeless: Timeless, linger_s: float, ends_s: float
) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        kept: list[str] = []
        with pytest.raises(ClientGone):
            await flights.run("k", leaving(1, 100, "a", linger_s=linger_s, on_result=kept.append))
        assert (asyncio.get_running_loop().time(), kept, flights.flights) == (ends_s, [], {})

    timeless(check)


def test_a_repeat_within_the_time_joins_and_stays_in_the_air(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        kept: list[str] = []
        first = asyncio.create_task(flights.run("k", leaving(1, 20, "a", linger_s=5, on_result=kept.append)))
        await asyncio.sleep(4)
        assert await flights.run("k", staying(20, "b", linger_s=5)) == "a"
        assert (asyncio.get_running_loop().time(), kept) == (20, ["a"])
        with pytest.raises(ClientGone):
            await first

    timeless(check)


def test_what_comes_out_is_kept_though_the_asker_left(timeless: Timeless) -> None:
    async def check() -> None:
        kept: list[str] = []
        with pytest.raises(ClientGone):
            await SingleFlight[str]().run("k", leaving(1, 3, "a", linger_s=5, on_result=kept.append))
        assert kept == ["a"]

    timeless(check)


def test_other_work_does_as_well_while_it_is_under_way_and_is_never_begun(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        told: list[bool] = []
        first = asyncio.create_task(flights.run("k", staying(1, OSError("mine"))))
        second = asyncio.create_task(flights.run("l", staying(2, "b", also=lambda: "k", on_joined=told.append)))
        await asyncio.sleep(0.5)
        assert set(flights.flights) == {"k"}
        with pytest.raises(OSError, match="mine"):
            await first
        await asyncio.sleep(0.5)
        assert (set(flights.flights), told) == ({"l"}, [True])
        assert await flights.run("k", staying(1, "c")) == "c"
        assert await second == "b"

    timeless(check)


def test_work_is_deserted_while_it_waits_for_who_asked_to_come_back(timeless: Timeless) -> None:
    async def check() -> None:
        flights = SingleFlight[str]()
        seen: list[bool] = []

        async def look() -> None:
            for _ in range(5):
                seen.append(flights.is_deserted("k"))
                await asyncio.sleep(1)

        looking = asyncio.create_task(look())  # before 0 s, and at 1, 2, 3 and 4 s
        first = asyncio.create_task(flights.run("k", leaving(0.5, 3.5, "a", linger_s=5)))
        await asyncio.sleep(1.5)
        assert await flights.run("k", staying(1, "b")) == "a"
        await looking
        assert seen == [False, True, False, False, False]
        with pytest.raises(ClientGone):
            await first

    timeless(check)


PEOPLE = st.lists(
    st.fixed_dictionaries(
        {
            "comes": st.integers(0, 6),
            "takes": st.integers(0, 6),
            "fails": st.booleans(),
            "leaves": st.none() | st.integers(0, 9),
            "cancelled": st.none() | st.integers(0, 9),
            "linger_s": st.sampled_from([0.0, 3.0]),
            "key": st.sampled_from("kkkl"),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=300)
@given(people=PEOPLE, ticks=st.integers(0, 3))
def test_whoever_is_cancelled_leaves_or_fails_nobody_else_notices(
    timeless: Timeless, people: list[dict[str, Any]], ticks: int
) -> None:
    """Times are whole, so that things happen at once; `ticks` shifts the cancellations by turns of the loop."""

    async def check() -> None:
        flights, at_work, outcomes = SingleFlight[tuple[str, int]](), list[tuple[str, int]](), dict[int, Any]()

        async def person(number: int, me: dict[str, Any]) -> None:
            async def work() -> tuple[str, int]:
                at_work.append((me["key"], number))
                try:
                    await asyncio.sleep(me["takes"])
                    if me["fails"]:
                        raise OSError(number)
                    return me["key"], number
                finally:
                    try:
                        await asyncio.sleep(1)  # as a decoder that has to be killed
                    finally:
                        at_work.remove((me["key"], number))

            async def left() -> None:
                await (asyncio.sleep(me["leaves"]) if me["leaves"] is not None else never())

            await asyncio.sleep(me["comes"])
            try:
                outcomes[number] = await flights.run(me["key"], Asker(work, left, me["linger_s"]))
            except (OSError, ClientGone, asyncio.CancelledError) as error:
                outcomes[number] = error
                raise
            finally:
                assert (me["key"], number) not in at_work, "its work goes on without its means"

        async def canceller(task: "asyncio.Task[None]", at_s: int) -> None:
            await asyncio.sleep(at_s)
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()

        tasks = [asyncio.create_task(person(number, me)) for number, me in enumerate(people)]
        cancels = [
            asyncio.create_task(canceller(task, me["cancelled"]))
            for task, me in zip(tasks, people, strict=True)
            if me["cancelled"] is not None
        ]
        await asyncio.wait_for(asyncio.gather(*tasks, *cancels, return_exceptions=True), 1000)

        for number, me in enumerate(people):
            match outcomes.get(number):
                case None:
                    assert me["cancelled"] is not None, "cancelled before it asked"
                case key, other:
                    assert (key, people[other]["fails"]) == (me["key"], False)
                case OSError(args=(failed,)):
                    assert failed == number, "another's failure"
                case ClientGone():
                    assert me["leaves"] is not None
                case asyncio.CancelledError():
                    assert me["cancelled"] is not None
        assert (flights.flights, at_work) == ({}, [])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    timeless(check)
