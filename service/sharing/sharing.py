"""One run for requests that ask the same: repeats by their Idempotency-Key, and twins by their content.

Only within what one caller sent to one route: what others asked is not to be guessed from how fast an answer comes.
"""

import json
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.types import Receive

from service.context import RequestContext
from service.errors import FieldError, IdempotencyMismatch, ServiceError
from service.settings import Settings
from service.sharing.idempotency import AnswerStore, Entry
from service.sharing.single_flight import Asker, SingleFlight
from service.telemetry.metrics import Telemetry
from service.uploads.form import Form

LINGER_S: Final = 5.0
"""How long a run with an Idempotency-Key goes on without its client, so that the client's repeat can join it."""
FOR_THE_SAME_REASON: Final = frozenset({413, 415, 422})
"""What a recording that is refused with these is refused with each time. Others may be the service's own fault."""

Run = Callable[[], Coroutine[Any, Any, Response]]


class Answer(NamedTuple):
    """A prediction as it was sent."""

    body: bytes
    media_type: str | None
    request_id: str
    """Of the request whose run it was."""

    @property
    def size(self) -> int:
        return len(self.body)

    def to(self, request_id: str) -> Response:
        """The same for another request: its own id, and the times of the run that it did not wait for."""
        own, other = (b'"request_id":"%s"' % name.encode() for name in (self.request_id, request_id))
        return Response(self.body.replace(own, other, 1), media_type=self.media_type)


class Refusal(NamedTuple):
    """An error that every repeat would meet, without the frames of the run that met it, which hold its recording."""

    kind: type[ServiceError]
    detail: str
    errors: Sequence[FieldError]

    @property
    def size(self) -> int:
        return len(self.detail) + sum(len(name) + len(detail) for name, detail in self.errors)

    def to(self, request_id: str) -> Response:  # noqa: ARG002 - as Answer's; an error handler adds the id
        """Raises the error anew."""
        error = self.kind.__new__(self.kind)
        ServiceError.__init__(error, self.detail, errors=self.errors)
        raise error


Outcome = Answer | Refusal


class Asked(NamedTuple):
    """What makes two requests equal, and what names one."""

    route: str
    payload: bytes
    """Digest of the form."""
    bundle: tuple[str, str]
    """Name and version of the one that answers."""
    key: str | None
    """The Idempotency-Key."""


class Sharing:
    """The runs in flight and the kept answers of one app."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.flights = SingleFlight[Outcome]()
        self.store = AnswerStore[Outcome](
            max_entries=settings.max_idempotent_entries,
            max_bytes=settings.max_idempotent_bytes,
            lifetime_s=settings.idempotency_s,
        )

    async def answer(
        self, asked: Asked, context: RequestContext, run: Run, left: Callable[[], Coroutine[Any, Any, None]]
    ) -> Response:
        """The answer of `run`, or of an equal one; `left` ends when the client has left.

        Raises ServiceError, IdempotencyMismatch among them, and ClientGone. What `run` uses may be closed afterwards.
        """
        flight = context.caller, asked.route, asked.payload, asked.bundle
        asker = Asker(partial(outcome_of, run, context), left, on_joined=partial(self.joined, context))
        if asked.key is not None:
            name = context.caller, asked.route, asked.key
            entry = self.claim(name, asked, flight)
            if entry.answer is not None:
                self.count("stored")
                return entry.answer.to(context.request_id)
            asker = asker._replace(
                work=partial(begun_for, entry, flight, asker.work),
                linger_s=LINGER_S,
                on_result=partial(self.store.keep, name, entry),
                also=lambda: entry.run,
            )
        outcome = await self.flights.run(flight, asker)
        return outcome.to(context.request_id)

    def expects(self, caller: str, route: str, key: str | None) -> bool:
        """Whether the run of this key goes on though its clients have left: a repeat joins it, and adds no work."""
        entry = None if key is None else self.store.entries.get((caller, route, key))
        return entry is not None and self.flights.is_deserted(entry.run)

    def claim(self, name: tuple[str, str, str], asked: Asked, flight: tuple[object, ...]) -> Entry[Outcome]:
        try:
            return self.store.claim(name, asked.payload, flight)
        except IdempotencyMismatch:
            self.count("mismatch")
            raise

    def joined(self, context: RequestContext, joined: bool) -> None:
        if joined:
            context.stage = "queue"
        self.count("joined" if joined else "new")

    def count(self, result: str) -> None:
        self.telemetry.idempotent.labels(result).inc()


def begun_for(
    entry: Entry[Outcome], flight: Hashable, work: Callable[[], Coroutine[Any, Any, Outcome]]
) -> Coroutine[Any, Any, Outcome]:
    """`work`, which the key's repeats join from now on; an earlier run may have ended without an answer."""
    entry.run = flight
    return work()


async def outcome_of(run: Run, context: RequestContext) -> Outcome:
    """What `run` gives, where an equal run would give it too; what it raises otherwise."""
    try:
        response = await run()
    except ServiceError as error:
        if error.status not in FOR_THE_SAME_REASON:
            raise
        return Refusal(type(error), error.detail, error.errors)
    return Answer(bytes(response.body), response.media_type, context.request_id)


async def disconnected(receive: Receive) -> None:
    """Ends when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def payload_digest(form: Form, spooled: bytes) -> bytes:
    """What the form holds: `spooled` is the digest of all files one after another, the form says which is where."""
    described = json.dumps([form.files, form.texts], sort_keys=True)
    return blake2b(described.encode() + spooled, digest_size=32).digest()
