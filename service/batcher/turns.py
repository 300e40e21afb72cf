"""The fair queue: requests take turns, one item each, and those for one graph share a batch."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.runtime.device import BuildItem, Runner


class Sharer(Protocol):
    """A request as the queue sees it; it is compared by identity."""

    @property
    def runner(self) -> Runner:
        """The graph that its items go through."""

    @property
    def waiting(self) -> int:
        """How many of its items were not handed out yet."""

    def take(self) -> tuple[int, BuildItem]:
        """Hand out the next item, with its place in the request's answer."""


S = TypeVar("S", bound=Sharer)


class Member(NamedTuple, Generic[S]):
    """One item of a batch."""

    request: S
    place: int
    build: BuildItem


class Turns(Generic[S]):
    """Requests in the order of their turns; each has at least one item waiting.

    Whoever gave an item goes behind those who did not: however many items the others have left, each of them has one
    turn before a request's next, so a clip waits for one batch of a ten-minute recording and not for all. Requests in
    danger (those whose deadline would pass if they waited for all that is here) go before their turn, the earliest
    deadline first, but take only every second place, and begin only every second batch. So those in danger have half of
    the device, those who take turns have the other half, and neither can starve the other.
    """

    def __init__(self) -> None:
        self.line: OrderedDict[S, None] = OrderedDict()
        self.waiting: Counter[str] = Counter()
        self.asking: Counter[str] = Counter()
        """Items, and requests, by the keys of their graphs."""
        self.danger_begins = False

    def __bool__(self) -> bool:
        return bool(self.line)

    def add(self, request: S) -> None:
        """Stand at the end of the line."""
        self.line[request] = None
        self._count(request.runner.key, request.waiting, 1)

    def remove(self, request: S) -> None:
        """Leave the line with all items, wherever it stands in it, if it does."""
        if request in self.line:
            del self.line[request]
            self._count(request.runner.key, -request.waiting, -1)

    def first(self) -> S:
        """Whose turn it is; there must be one."""
        return next(iter(self.line))

    def alone(self) -> bool:
        """Whether no other request is in the line."""
        return len(self.line) <= 1

    def next_batch(self, size_of: Callable[[Runner], int], in_danger: Sequence[S] = ()) -> list[Member[S]]:
        """Items for the graph whose turn it is, as many as `size_of` says or fewer, taken one by one.

        Somebody must be in the line; `in_danger` may name requests that have left it, or have nothing waiting.
        """
        hurried = [request for request in in_danger if request in self.line]
        self.danger_begins = bool(hurried) and not self.danger_begins
        first = hurried[0] if self.danger_begins else self.first()
        runner, size = first.runner, size_of(first.runner)
        sharing = deque(
            [first] if size == 1 else islice((other for other in self.line if other.runner is runner), size)
        )
        urgent = deque(request for request in hurried if request.runner is runner)
        batch: list[Member[S]] = []
        while len(batch) < size and (sharing or urgent):
            hurry = bool(urgent) and (not sharing or (len(batch) % 2 == 0) == self.danger_begins)
            request = (urgent if hurry else sharing).popleft()
            if not request.waiting:
                continue
            batch.append(Member(request, *request.take()))
            if hurry:
                urgent.appendleft(request)
            else:
                sharing.append(request)
        asked = len(self.line)
        for request, *_ in batch:
            if request.waiting:
                self.line.move_to_end(request)
            else:
                self.line.pop(request, None)
        self._count(runner.key, -len(batch), len(self.line) - asked)
        return batch

    def _count(self, key: str, items: int, requests: int) -> None:
        """A graph that nobody asks for is not remembered: it may be gone for ever."""
        self.waiting[key] += items
        self.asking[key] += requests
        if not self.asking[key]:
            del self.waiting[key], self.asking[key]
