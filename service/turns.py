"""The fair queue: requests take turns, one item each, and those for one graph share a batch."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.device import BuildItem, Runner


class Sharer(Protocol):
    """A request as the queue sees it; it is compared by identity."""

    @property
    def runner(self) -> Runner:
        """The graph that its items go through."""

    @property
    def waiting(self) -> deque[tuple[int, BuildItem]]:
        """Its items that were not handed out yet, with their places in its answer."""


S = TypeVar("S", bound=Sharer)


class Member(NamedTuple, Generic[S]):
    """One item of a batch."""

    request: S
    place: int
    build: BuildItem


class Turns(Generic[S]):
    """Requests in the order of their turns; each has at least one item waiting."""

    def __init__(self) -> None:
        self.line: list[S] = []

    def __iter__(self) -> Iterator[S]:
        return iter(self.line)

    def __bool__(self) -> bool:
        return bool(self.line)

    def add(self, request: S) -> None:
        """Stand at the end of the line."""
        self.line.append(request)

    def remove(self, request: S) -> None:
        """Leave the line, wherever it stands in it, if it does."""
        self.line = [other for other in self.line if other is not request]

    def next_batch(self, size: int) -> list[Member[S]]:
        """Up to `size` items for the graph whose turn it is, taken one by one from each request that needs it.

        Who gave an item goes behind those who did not. So however many items the others have left, each of them has
        one turn before a request's next: an item, or a batch where nobody else needs its graph.
        """
        if not self.line:
            return []
        runner = self.line[0].runner
        sharing = deque(request for request in self.line if request.runner is runner)
        batch: list[Member[S]] = []
        while sharing and len(batch) < size:
            request = sharing.popleft()
            batch.append(Member(request, *request.waiting.popleft()))
            if request.waiting:
                sharing.append(request)
        gave = {id(member.request) for member in batch}
        others = [request for request in self.line if id(request) not in gave]
        self.line = others + [request for request in sharing if id(request) in gave]
        return batch
