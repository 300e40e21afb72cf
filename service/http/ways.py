"""What a connection knows of the ways on which requests are answered without the app."""

from collections.abc import Callable
from typing import Protocol

from starlette.types import Scope

from service.http.framing import HeaderList


class Way(Protocol):
    """A request between its connection and its answer."""

    def abandon(self) -> None:
        """The client has left."""


class Ways(Protocol):
    """As `service.oip.express` has them."""

    def takes(self, scope: Scope) -> bool:
        """Whether a request may go this way, should its body come soon."""

    def set_out(
        self, scope: Scope, body: bytes, answer: Callable[[HeaderList, bytes], None], decline: Callable[[], None]
    ) -> Way | None:
        """The request is on its way; None where the app is to answer."""
