"""Idempotency-Key: what a repeat of a request is answered, for some minutes and within bounds.

The header is that of draft-ietf-httpapi-idempotency-key-header. Only answers are kept, never what was asked.
"""

import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from starlette.datastructures import Headers

from service.errors import FieldError, IdempotencyMismatch, InvalidField
from service.http.sent_once import sent_once

HEADER: Final = "Idempotency-Key"
LARGEST_SHARE: Final = 4
"""An answer larger than the room divided by this is not kept; its key is."""
VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,128}")


class Sized(Protocol):
    """What can be kept."""

    @property
    def size(self) -> int:
        """Bytes."""


A = TypeVar("A", bound=Sized)


def idempotency_key(headers: Headers) -> str | None:
    """The request's key, if it has one; InvalidField where it is none that can be."""
    given = sent_once(headers, HEADER)
    if given is not None and not VISIBLE.fullmatch(given):
        raise InvalidField([FieldError(HEADER, "must be sent once, as 1 to 128 visible ASCII characters")])
    return given


@dataclass
class Entry(Generic[A]):
    """What is known of one key."""

    digest: bytes
    """Of the payload that it came with."""
    run: Hashable
    """Which work was begun for it last: what a repeat joins, should it still go on."""
    until_s: float
    answer: A | None = None


class AnswerStore(Generic[A]):
    """Answers by key, in memory. The oldest goes first, by time or for want of room.

    What holds no answer takes no room: a key that is at work goes only where there are too many keys.
    """

    def __init__(
        self, *, max_entries: int, max_bytes: int, lifetime_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_entries, self.max_bytes, self.lifetime_s, self.clock = max_entries, max_bytes, lifetime_s, clock
        self.entries: dict[Hashable, Entry[A]] = {}
        """In the order of their ends."""
        self.bytes = 0

    def claim(self, key: Hashable, digest: bytes, run: Hashable) -> Entry[A]:
        """What is known of this key and payload; where nothing is, the key now stands for the payload and the run.

        Raises IdempotencyMismatch where the key stands for another payload.
        """
        self.drop_expired()
        entry = self.entries.get(key)
        if entry is None:
            entry = Entry(digest, run, self.clock() + self.lifetime_s)
            self.put(key, entry)
        if entry.digest != digest:
            raise IdempotencyMismatch(
                f"this {HEADER} came with another payload before; send a new key with a new payload, the old one only "
                "with what it came with"
            )
        return entry

    def keep(self, key: Hashable, claimed: Entry[A], answer: A) -> None:
        """Keep the answer from now on for `lifetime_s`, unless the key has come to stand for another payload."""
        known = self.entries.get(key)
        if known is not None and known.digest != claimed.digest:
            return
        self.remove(key)
        kept = answer if answer.size <= self.max_bytes // LARGEST_SHARE else None
        self.put(key, Entry(claimed.digest, claimed.run, self.clock() + self.lifetime_s, kept))

    def put(self, key: Hashable, entry: Entry[A]) -> None:
        self.entries[key] = entry
        self.bytes += entry.answer.size if entry.answer is not None else 0
        while self.bytes > self.max_bytes:
            self.remove(next(key for key, entry in self.entries.items() if entry.answer is not None))
        while len(self.entries) > self.max_entries:
            self.remove(next(iter(self.entries)))

    def drop_expired(self) -> None:
        now_s = self.clock()
        while self.entries and next(iter(self.entries.values())).until_s <= now_s:
            self.remove(next(iter(self.entries)))

    def remove(self, key: Hashable) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None and entry.answer is not None:
            self.bytes -= entry.answer.size
