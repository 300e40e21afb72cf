"""The keys of a running service: who has one, and how many requests each has at work."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.access.keys import ApiKey, KeysError, find_key, read_keys
from service.errors import RateLimited, Unauthenticated

MAX_RETRY_AFTER_S: Final = 60
SMOOTHING: Final = 0.1
"""Weight of the newest request in the mean time that a key's requests take."""


class Use:
    """What one key is doing."""

    def __init__(self) -> None:
        self.at_work = 0
        self.mean_request_s = 1.0


class KeyRing:
    """The keys of `file`. Raises KeysError where they cannot be read."""

    def __init__(
        self,
        file: Path,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file = file
        self.jitter, self.clock = jitter, clock
        self.keys: list[ApiKey] = []
        self.uses: dict[str, Use] = {}
        self.read()

    def read(self) -> None:
        """Take the keys from what is in the file now; KeysError, with nothing changed, where that cannot be."""
        self.take(self.found())

    def found(self) -> list[ApiKey]:
        """What is in the file now. Raises KeysError."""
        try:
            return read_keys(self.file.read_text(encoding="utf-8"))
        except OSError as error:
            raise KeysError(f"it cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise KeysError("it is not text in UTF-8") from None

    def take(self, keys: list[ApiKey]) -> None:
        """Let these in from now on; who is at work goes on to count."""
        self.keys = keys
        self.uses = {key.caller: self.uses.get(key.caller, Use()) for key in keys}

    def key_of(self, token: str | None) -> ApiKey:
        """The token's key. Raises Unauthenticated."""
        key = None if token is None else find_key(self.keys, token)
        if key is None:
            why = "this address needs an API key" if token is None else "the API key is not one of this service"
            raise Unauthenticated(f"{why}; send one as Authorization: Bearer KEY (a stream: `token` in its hello)")
        return key

    def require(self, caller: str) -> None:
        """Raise Unauthenticated where the key of `caller` has been taken out of the file."""
        if caller not in self.uses:
            raise Unauthenticated("the API key is not one of this service any more; begin anew with one that is")

    def welcome(self, key: ApiKey, *, expected: bool = False) -> None:
        """Raise RateLimited where no other request of this key may come in.

        `expected` is one that joins a run which counts already: as many of them as the limit come in beyond it, since
        there are no more such runs.
        """
        use = self.uses[key.caller]
        if key.limit is not None and use.at_work >= key.limit * (2 if expected else 1):
            raise self.rate_limited(key.limit, use)

    @contextmanager
    def admitted(self, key: ApiKey, *, expected: bool = False) -> Iterator[None]:
        """The same, with the request at work meanwhile."""
        self.welcome(key, expected=expected)
        use = self.uses[key.caller]
        use.at_work += 1
        begin_s = self.clock()
        try:
            yield
        finally:
            use.at_work -= 1
            use.mean_request_s += SMOOTHING * (self.clock() - begin_s - use.mean_request_s)

    def rate_limited(self, limit: int, use: Use) -> RateLimited:
        """By Little's law one of `limit` places comes free in each `mean_request_s / limit`."""
        free_in_s = use.mean_request_s / limit * (1.0 + self.jitter())
        retry_after_s = min(MAX_RETRY_AFTER_S, max(1, math.ceil(free_in_s)))
        return RateLimited(
            f"{use.at_work} requests of this API key are at work, and its limit is {limit}; "
            f"try again in {retry_after_s} s",
            retry_after_s,
        )
