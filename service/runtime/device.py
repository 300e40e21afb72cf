"""What happens on a device's thread: tensors are built, run together, and in ever smaller parts where that fails."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.runtime.cancellation import Cancellation, RunCancelled
from service.runtime.warm_up import WarmUp
from service.threads.priority import stand_back

JOIN_S: Final = 0.5
"""A run that was asked to end takes a few hundredths of a second for it."""

Array = NDArray[np.generic]
Tensors = Mapping[str, Array]
BuildItem = Callable[[], Tensors]
"""Makes the tensors of one window by modality, without the batch axis. Called once, on a device's thread."""
Result = Array | BaseException
"""One item's row, or why it has none."""
Tell = Callable[[Tensors], None]
"""Takes what the T-Nets expect of their errors in the next rows of a run, (rows,) by modality."""


@dataclass(slots=True)
class Row:
    """One window of arrays (batch, ...) by modality: neighbours in one batch are not copied together again."""

    arrays: Tensors
    row: int

    def __call__(self) -> Tensors:
        return {modality: array[self.row] for modality, array in self.arrays.items()}


class Told(dict[str, Array]):
    """A window's tensors, with a place for what the T-Nets expect of their errors there, by modality."""

    def __init__(self, arrays: Tensors, expected: dict[str, float]) -> None:
        super().__init__(arrays)
        self.expected = expected


Item = Tensors | Row


class Runner(Protocol):
    """What the batcher needs of a `GraphRunner`."""

    @property
    def key(self) -> str:
        """Names the graph in estimates and metrics."""

    @property
    def warm_up(self) -> WarmUp:
        """What its first runs took."""

    def on_device(self, device: int, *, alone: bool = False) -> Self:
        """The same graph on the device of this index, itself on its own; `alone` where nothing else runs there."""

    def run(self, inputs: Tensors, cancel: Cancellation | None = None, tell: Tell | None = None) -> Array:
        """(batch, ...) of one array (batch, ...) per modality; any error once `cancel` was asked for.

        `tell` is called with all rows, in order and in as many parts as they are run in, if the graph is measured.
        """


class Job(Protocol):
    """A batch as the device sees it."""

    @property
    def runner(self) -> Runner:
        """The graph, on the first device."""

    @property
    def builds(self) -> Sequence[BuildItem]:
        """Its items."""

    @property
    def alone(self) -> bool:
        """Whether it has the device to itself when it comes."""

    @property
    def cancel(self) -> Cancellation:
        """Asked once nobody waits for any of them."""

    def begin(self) -> None:
        """A thread has taken it."""

    def end(self) -> None:
        """The same thread has done all it could."""


J = TypeVar("J", bound=Job)


class Lane(Generic[J]):
    """A thread that computes one batch after another on one device, and tells the event loop of each.

    The lanes of a device share their `jobs`; None ends one of them.
    """

    def __init__(self, device: int, jobs: "SimpleQueue[J | None]", done: Callable[[J, list[Result]], None]) -> None:
        self.device, self.jobs, self.done = device, jobs, done
        self.loop = asyncio.get_running_loop()
        # a daemon, since a stuck device must not hold the exit
        self.thread = threading.Thread(target=self._work, name=f"device-{device}", daemon=True)
        self.thread.start()

    def join(self) -> None:
        """Wait a moment for its end, since the process must not end inside a run that can stop."""
        self.thread.join(JOIN_S)

    def _work(self) -> None:
        stand_back()
        while (job := self.jobs.get()) is not None:
            results = carry_out(job, self.device)
            with contextlib.suppress(RuntimeError):  # the event loop has closed: nobody is left to be told
                self.loop.call_soon_threadsafe(self.done, job, results)
            del job, results  # while it waits a thread must not keep a batch alive


def carry_out(job: Job, device: int) -> list[Result]:
    """Compute it in this thread."""
    job.begin()
    results = compute(job.runner.on_device(device, alone=job.alone), job.builds, job.cancel)
    job.end()
    return results


def compute(runner: Runner, builds: Sequence[BuildItem], cancel: Cancellation) -> list[Result]:
    """One row or error per item. An error is only the item's own: it failed alone, not for its company."""
    # BaseException here and below, since the thread and the event loop must outlive whatever an item raises
    items: list[Item] = []
    failed: dict[int, Result] = {}
    for place, build in enumerate(builds):
        try:
            items.append(build if isinstance(build, Row) else build())
        except BaseException as error:
            failed[place] = error
    results: list[Result] = []
    most = runner.warm_up.useful_batch
    for start in range(0, len(items), most):  # to bring more together takes longer than it saves
        results += run_split(runner, items[start : start + most], cancel)
    for place, why in failed.items():  # in ascending order, so that each comes to stand where it was
        results.insert(place, why)
    return results


def run_split(runner: Runner, items: Sequence[Item], cancel: Cancellation) -> list[Result]:
    """Run all together; if that fails, each half by itself, until the culprits stand alone."""
    if not items:
        return []
    try:
        return run_together(runner, items, cancel)
    except BaseException as error:
        if len(items) == 1 or cancel.asked:
            return [error] * len(items)
    half = len(items) // 2
    return run_split(runner, items[:half], cancel) + run_split(runner, items[half:], cancel)


def run_together(runner: Runner, items: Sequence[Item], cancel: Cancellation) -> list[Result]:
    """A row per item, if the graph does what it should."""
    if cancel.asked:
        raise RunCancelled
    output = runner.run(stack(items), cancel, teller(items))
    if len(output) != len(items):
        raise ValueError(f"the graph gave {len(output)} rows for {len(items)} items")
    return list(output)


def teller(items: Sequence[Item]) -> Tell | None:
    """Fills the places of these items; None where nobody wants to know."""
    if not any(isinstance(item, Told) for item in items):
        return None
    coming = iter(items)

    def tell(expected: Tensors) -> None:
        for row in zip(*expected.values(), strict=True):
            item = next(coming)
            if isinstance(item, Told):
                item.expected |= {modality: float(value) for modality, value in zip(expected, row, strict=True)}

    return tell


def stack(items: Sequence[Item]) -> Tensors:
    """One array (batch, ...) per modality; a view of what is there where no copy is needed."""
    first = items[0]
    if isinstance(first, Row):
        arrays, start = first.arrays, first.row
        if all(
            isinstance(item, Row) and item.arrays is arrays and item.row == start + n for n, item in enumerate(items)
        ):
            return {modality: array[start : start + len(items)] for modality, array in arrays.items()}
    windows = [item() if isinstance(item, Row) else item for item in items]
    if len(windows) == 1:
        return {modality: array[np.newaxis] for modality, array in windows[0].items()}
    if any(window.keys() != windows[0].keys() for window in windows):
        raise ValueError("the items of a batch hold different modalities")
    return {modality: np.stack([window[modality] for window in windows]) for modality in windows[0]}
