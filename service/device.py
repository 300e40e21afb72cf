"""What happens on the device's thread: tensors are built, run together, and run alone where that fails."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.runtime import WarmUp

Array = NDArray[np.generic]
Tensors = Mapping[str, Array]
BuildItem = Callable[[], Tensors]
"""Makes the tensors of one window by modality, without the batch axis. Called once, on the device's thread."""


class Runner(Protocol):
    """What the batcher needs of a `GraphRunner`."""

    @property
    def key(self) -> str:
        """Names the graph in estimates and metrics."""

    @property
    def warm_up(self) -> WarmUp:
        """What its first runs took."""

    def run(self, inputs: Tensors) -> Array:
        """(batch, ...) of one array (batch, ...) per modality."""


def compute(runner: Runner, builds: Sequence[BuildItem]) -> list[Array | BaseException]:
    """One row or error per item. An error is only the item's own: it failed alone, not for its company."""
    # BaseException, since the thread and the event loop must outlive whatever an item raises
    results: dict[int, Array | BaseException] = {}
    built: dict[int, Tensors] = {}
    for place, build in enumerate(builds):
        try:
            built[place] = build()
        except BaseException as error:
            results[place] = error
    try:
        if built:
            results |= zip(built, run_together(runner, list(built.values())), strict=True)
    except BaseException as error:
        results |= {place: error if len(built) == 1 else run_alone(runner, item) for place, item in built.items()}
    return [results[place] for place in range(len(builds))]


def run_alone(runner: Runner, item: Tensors) -> Array | BaseException:
    """The item's row, or why it has none."""
    try:
        (row,) = run_together(runner, [item])
    except BaseException as error:
        return error
    return row


def run_together(runner: Runner, items: Sequence[Tensors]) -> list[Array]:
    """A row per item, if the graph does what it should."""
    if any(item.keys() != items[0].keys() for item in items):
        raise ValueError("the items of a batch hold different modalities")
    return list(runner.run({modality: np.stack([item[modality] for item in items]) for modality in items[0]}))
