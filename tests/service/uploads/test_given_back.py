"""All that a request takes at its headers is given back, wherever it ends."""

import asyncio
import itertools
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from service.errors import ServiceError
from service.predict.predict import covered
from service.uploads.admission import Admission
from service.uploads.form import read_form
from service.uploads.upload import BodyLimits, Spool, read_body
from service.uploads.work_rate import Kind

PAIN = Kind("pain", "graph", decodes=True)


def admission(*, max_requests: int, max_spool_bytes: int) -> Admission:
    """Its clock, and its work, go on by a second whenever they are looked at."""
    seconds = itertools.count()
    return Admission(
        max_requests=max_requests,
        max_spool_bytes=max_spool_bytes,
        max_queue_s=10.0,
        queued_s=lambda *_: 0.0,
        worked_s=lambda: float(next(seconds)),
        jitter=lambda: 0.0,
        clock=lambda: float(next(seconds)),
    )


class AtOnce(Executor):
    """Runs work where it is submitted, so that a run takes the same steps every time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


BODY = (
    b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n'
    + random.Random(5).randbytes(3_000)
    + b"\r\n--edge--\r\n"
)


async def upload(
    gate: Admission, folder: Path, declared_bytes: int | None, chunks: list[bytes], *, fails: bool
) -> None:
    """One request, from its headers to its answer."""
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    with gate.place(PAIN, declared_bytes) as place:
        spool = Spool(folder, 500, AtOnce())
        try:
            body = covered(read_body(receive, BodyLimits(10_000, 0, 5.0)), place)
            await read_form(body, b"edge", spool, files=frozenset({"video"}), texts=frozenset(), max_files=1)
            place.arrived()
            await asyncio.sleep(0)
            if fails:
                raise ServiceError("a bug")
            place.answered({"decode": 0.5})
        finally:
            spool.close()


@pytest.mark.parametrize("declared_bytes", [None, len(BODY), 10 * len(BODY)])
def test_a_request_that_is_cancelled_at_any_await_gives_all_back(tmp_path: Path, declared_bytes: int | None) -> None:
    gate = admission(max_requests=1, max_spool_bytes=10 << 20)
    with gate.place(PAIN, 1000) as place:
        place.answered({"decode": 1.0})
    cuts = [BODY[at : at + 400] for at in range(0, len(BODY), 400)]

    async def cancelled_after(steps: int) -> bool:
        task = asyncio.create_task(upload(gate, tmp_path, declared_bytes, cuts, fails=False))
        for _ in range(steps):
            await asyncio.sleep(0)
        was_held = gate.coming_s(PAIN, None) > 0 and gate.spool_bytes > 0
        task.cancel()
        await asyncio.wait([task])
        assert (gate.at_work, gate.spool_bytes, gate.coming_s(PAIN, None)) == (0, 0, 0), steps
        held.append(was_held)
        return task.cancelled()

    async def everywhere() -> int:
        steps = 0
        while await cancelled_after(steps):
            steps += 1
        return steps

    held: list[bool] = []
    assert asyncio.run(everywhere()) > len(cuts)
    assert any(held)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_many_at_once_all_is_given_back(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    gate = admission(max_requests=6, max_spool_bytes=9_000)

    async def one() -> None:
        declared = chance.choice([None, len(BODY), chance.randrange(20_000)])
        cuts = sorted(chance.sample(range(len(BODY)), 5))
        chunks = [BODY[start:end] for start, end in zip([0, *cuts], [*cuts, len(BODY)], strict=True)]
        await upload(gate, tmp_path, declared, chunks[: chance.randint(1, 9)], fails=chance.random() < 0.2)

    async def all_of_them() -> None:
        tasks = []
        for _ in range(60):
            tasks.append(asyncio.create_task(one()))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            chance.choice(tasks).cancel()
            assert 0 <= gate.spool_bytes <= gate.max_spool_bytes
            assert gate.at_work <= gate.max_requests
            assert gate.coming_s(PAIN, None) >= 0
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds.update(type(outcome) for outcome in outcomes)

    kinds: set[type] = set()
    asyncio.run(all_of_them())

    assert (gate.at_work, gate.spool_bytes, gate.coming_s(PAIN, None)) == (0, 0, 0)
    assert len(kinds) > 2  # some came through, some were refused, some were cancelled
