import asyncio
import gc
import json
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import pytest
from starlette.responses import Response

from service.context import RequestContext
from service.errors import ClientGone, FieldError, IdempotencyMismatch, InvalidField, NoFace, NotReady, ServiceError
from service.settings import Settings
from service.sharing.sharing import Asked, Sharing, payload_digest
from service.telemetry.metrics import Telemetry
from service.uploads.form import Form
from service.uploads.upload import Piece

Timeless = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
BUNDLE = ("pain", "1")


def new_sharing() -> Sharing:
    return Sharing(Settings.model_validate({"bundles": "x"}), Telemetry(latency_objective_s=1))


def counted(sharing: Sharing) -> dict[str, float]:
    samples = sharing.telemetry.idempotent.collect()[0].samples
    return {sample.labels["result"]: sample.value for sample in samples if sample.name.endswith("_total")}


async def never() -> None:
    await asyncio.Event().wait()


class Service:
    """What the requests of a test meet: a run takes a second and answers its request's id."""

    def __init__(self) -> None:
        self.sharing = new_sharing()
        self.runs: list[str] = []

    async def ask(
        self,
        request_id: str,
        *,
        key: str | None = None,
        payload: bytes = b"p",
        route: str = "pain",
        caller: str = "",
        fails: ServiceError | None = None,
        left: Callable[[], Coroutine[Any, Any, None]] = never,
        bundle: tuple[str, str] = BUNDLE,
    ) -> Any:
        context = RequestContext(request_id, None, 0.0, caller=caller)

        async def run() -> Response:
            self.runs.append(request_id)
            await asyncio.sleep(1)
            if fails is not None:
                raise fails
            return Response(f'{{"request_id":"{request_id}","note":"of {request_id}"}}', media_type="application/json")

        response = await self.sharing.answer(Asked(route, payload, bundle, key), context, run, left)
        assert response.media_type == "application/json"
        return json.loads(bytes(response.body))


def test_a_repeat_gets_the_kept_answer_under_its_own_id(timeless: Timeless) -> None:
    async def check() -> None:
        service = Service()
        assert await service.ask("a", key="k") == {"request_id": "a", "note": "of a"}
        assert await service.ask("b", key="k") == {"request_id": "b", "note": "of a"}
        assert (service.runs, counted(service.sharing)) == (["a"], {"new": 1, "stored": 1})

    timeless(check)


def test_a_repeat_and_a_twin_join_the_run_in_flight(timeless: Timeless) -> None:
    async def check() -> None:
        service = Service()
        asked = [
            service.ask("a", key="k"),
            service.ask("b", key="k"),
            service.ask("twin"),
            service.ask("d", key="other"),
        ]
        answers = await asyncio.gather(*asked)
        assert [answer["request_id"] for answer in answers] == ["a", "b", "twin", "d"]
        assert (service.runs, counted(service.sharing)) == (["a"], {"new": 1, "joined": 3})
        assert (await service.ask("e", key="other"))["note"] == "of a"
        assert counted(service.sharing)["stored"] == 1

    timeless(check)


@pytest.mark.parametrize("other", [{"payload": b"q"}, {"route": "valence-arousal"}, {"caller": "somebody else"}])
def test_nothing_else_is_shared(timeless: Timeless, other: dict[str, Any]) -> None:
    async def check() -> None:
        service = Service()
        await asyncio.gather(service.ask("a"), service.ask("b", **other))
        assert service.runs == ["a", "b"]

    timeless(check)


@pytest.mark.parametrize("other", [{"route": "valence-arousal"}, {"caller": "somebody else"}])
def test_a_key_is_one_callers_on_one_route(timeless: Timeless, other: dict[str, Any]) -> None:
    async def check() -> None:
        service = Service()
        await service.ask("a", key="k")
        await service.ask("b", key="k", payload=b"q", **other)
        assert service.runs == ["a", "b"]

    timeless(check)


def test_a_key_with_another_payload_is_refused_and_counted(timeless: Timeless) -> None:
    async def check() -> None:
        service = Service()
        first = asyncio.create_task(service.ask("a", key="k"))
        await asyncio.sleep(0.5)
        with pytest.raises(IdempotencyMismatch):
            await service.ask("b", key="k", payload=b"q")
        await first
        assert (service.runs, counted(service.sharing)) == (["a"], {"new": 1, "mismatch": 1})

    timeless(check)


def test_a_refusal_that_any_repeat_would_meet_is_kept(timeless: Timeless) -> None:
    async def check() -> None:
        service = Service()
        for request_id in "ab":
            with pytest.raises(InvalidField) as refused:
                await service.ask(request_id, key="k", fails=InvalidField([FieldError("start_s", "too late")]))
            assert (refused.value.detail, refused.value.errors) == ("start_s: too late", (("start_s", "too late"),))
        assert service.runs == ["a"]

    timeless(check)


def test_a_failure_of_the_service_is_neither_kept_nor_shared(timeless: Timeless) -> None:
    async def check() -> None:
        service = Service()
        first = asyncio.create_task(service.ask("a", key="k", fails=NotReady("the device is lost")))
        second = asyncio.create_task(service.ask("b", key="k"))
        with pytest.raises(NotReady):
            await first
        assert (await second)["note"] == "of b"
        assert (await service.ask("c", key="k"))["note"] == "of b"
        assert service.runs == ["a", "b"]

    timeless(check)


@pytest.mark.parametrize("waits", [False, True], ids=["comes later", "takes over"])
def test_a_repeat_on_another_bundle_does_not_run_in_the_first_ones_name(timeless: Timeless, waits: bool) -> None:
    canary = ("pain", "2")

    async def check() -> None:
        service = Service()
        first = asyncio.create_task(service.ask("a", key="k", bundle=canary, fails=NotReady("the device is lost")))
        await asyncio.sleep(0.5 if waits else 1.5)
        repeats = [asyncio.create_task(service.ask("b", key="k"))]
        with pytest.raises(NotReady):
            await first
        await asyncio.sleep(0.5)
        repeats.append(asyncio.create_task(service.ask("c", key="k", bundle=canary)))
        assert await service.ask("d", bundle=canary) == {"request_id": "d", "note": "of d"}
        assert [(await repeat)["note"] for repeat in repeats] == ["of b", "of b"]
        assert service.runs == ["a", "b", "d"]

    timeless(check)


def test_a_repeat_is_expected_while_its_run_goes_on_without_a_client(timeless: Timeless) -> None:
    async def gone() -> None:
        await asyncio.sleep(0.25)

    async def check() -> None:
        service = Service()
        expected: list[bool] = []
        first = asyncio.create_task(service.ask("a", key="k", left=gone))
        for _ in range(3):  # asked, left, answered
            await asyncio.sleep(0.125 if not expected else 0.5)
            expected.append(service.sharing.expects("", "pain", "k"))
            for other in (("somebody else", "pain", "k"), ("", "valence-arousal", "k"), ("", "pain", "l")):
                assert not service.sharing.expects(*other)
            assert not service.sharing.expects("", "pain", None)
        assert expected == [False, True, False]
        with pytest.raises(ClientGone):
            await first

    timeless(check)


def test_a_run_with_a_key_outlives_its_client_by_five_seconds_and_another_does_not(timeless: Timeless) -> None:
    async def gone() -> None:
        await asyncio.sleep(0.5)

    async def check() -> None:
        service = Service()
        for key in ("k", None):
            with pytest.raises(ClientGone):
                await service.ask("a", key=key, left=gone, payload=str(key).encode())
        assert (await service.ask("b", key="k", payload=b"k"))["note"] == "of a"
        assert (await service.ask("c", payload=b"None"))["note"] == "of c"

    timeless(check)


def test_a_kept_refusal_holds_nothing_of_the_recording(timeless: Timeless) -> None:
    class Recording:
        """Something that a weak reference can follow."""

    followed: list[weakref.ref[Recording]] = []

    async def fail() -> NoReturn:
        recording = Recording()
        followed.append(weakref.ref(recording))
        raise NoFace("no face was found")

    async def check() -> None:
        sharing = new_sharing()
        with pytest.raises(NoFace):
            await sharing.answer(Asked("pain", b"p", BUNDLE, "k"), RequestContext("a", None, 0.0), fail, never)
        gc.collect()
        assert len(sharing.store.entries) == 1
        assert followed[0]() is None

    timeless(check)


def test_forms_are_equal_where_files_and_fields_are() -> None:
    form = Form({"frames": [Piece(0, 5), Piece(5, 7)]}, {"fps": ["25"]})
    others = [
        Form({"frames": [Piece(0, 6), Piece(6, 6)]}, {"fps": ["25"]}),
        Form({"frames": [Piece(0, 5)], "video": [Piece(5, 7)]}, {"fps": ["25"]}),
        Form({"frames": [Piece(0, 5), Piece(5, 7)]}, {"fps": ["30"]}),
        Form({"frames": [Piece(0, 5), Piece(5, 7)]}, {"fps": ["25"], "start_s": ["1"]}),
    ]
    same = Form({"frames": [Piece(0, 5), Piece(5, 7)]}, {"fps": ["25"]})

    assert payload_digest(form, b"content") == payload_digest(same, b"content")
    digests = {payload_digest(other, b"content") for other in (form, *others)} | {payload_digest(form, b"other")}
    assert len(digests) == 6
