"""Windows of a corpus as tensors, with who they are of; and the order in which batches are dealt.

Axes: M windows of the corpus, N of them in a set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LABELLED_SHARE = 0.5
"""Of a batch, where labels are few: at least so much of it has one, unless there are not as many."""


def has_target(targets: Tensor) -> Tensor:
    """bool (N,): which of the targets (N,) int64 or (N, C) float32 are there."""
    return targets >= 0 if targets.ndim == 1 else targets.isfinite().all(dim=1)


class Batch(NamedTuple):
    """Some windows: modality to (B, ...), targets (B,) or (B, C), persons (B,), and where in the corpus they are (B,).

    Under `torchrun` the tensors are this rank's part of the batch, the rest is of the whole.
    """

    tensors: dict[str, Tensor]
    targets: Tensor
    person: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> "Batch":
        tensors = {name: values.to(device) for name, values in self.tensors.items()}
        return Batch(tensors, self.targets.to(device), self.person.to(device), self.rows)

    @property
    def labelled(self) -> Tensor:
        """bool (B,): which windows have a target."""
        return has_target(self.targets)


@dataclass(frozen=True)
class WindowSet:
    """N windows out of a corpus's M. Where a modality was not observed its rows hold zeros, and `observed` says so.

    Choosing windows copies no tensor: a corpus may lie on disk, and only batches are read.
    """

    store: Mapping[str, Tensor]
    """Modality to (M, ...), or to (N, ...) with `rows` 0..N-1."""
    rows: Tensor
    """int64 (N,): where in the store each window is."""
    observed: dict[str, Tensor]
    """Modality to bool (N,)."""
    targets: Tensor
    """Levels and classes: int64 (N,), -1 where there is none; values: float32 (N, C), NaN where there is none."""
    person: Tensor
    """int64 (N,): index into `people`."""
    clip: Tensor
    """int64 (N,): index into the corpus's clips."""
    spans_s: Tensor
    """float64 (N, 2): start and end on the clip's clock."""
    people: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def tensor(self, modality: str) -> Tensor:
        """All N windows of one modality in memory, (N, ...)."""
        return self.store[modality][self.rows]

    def pick(self, chosen: Tensor) -> "WindowSet":
        """The windows at `chosen`: indices, or a bool mask (N,)."""
        index = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
        return WindowSet(
            self.store,
            self.rows[index],
            {name: values[index] for name, values in self.observed.items()},
            self.targets[index],
            self.person[index],
            self.clip[index],
            self.spans_s[index],
            self.people,
        )

    def of_clips(self, chosen: Sequence[bool]) -> "WindowSet":
        """Only windows of the clips that are True in `chosen`, one for each clip of the corpus."""
        return self.pick(torch.tensor(chosen, dtype=torch.bool)[self.clip])

    def labelled(self) -> "WindowSet":
        """Only windows with a target."""
        return self.pick(has_target(self.targets))

    def with_all(self, modalities: Sequence[str]) -> "WindowSet":
        """Only windows in which all of `modalities` were observed."""
        mask = torch.ones(len(self), dtype=torch.bool)
        for name in modalities:
            mask &= self.observed[name]
        return self.pick(mask)

    def with_labels_of(self, kept: Tensor) -> "WindowSet":
        """The same windows; those that are False in `kept` (N,) lose their target."""
        none = -1 if self.targets.ndim == 1 else torch.nan
        targets = self.targets.clone()
        targets[~kept] = none
        return replace(self, targets=targets)

    def batch(self, index: Tensor, part: slice = slice(None)) -> Batch:
        """The windows at `index`; of them only `part` as tensors, where several ranks share a batch."""
        rows = self.rows[index]
        tensors = {name: values[rows[part]] for name, values in self.store.items()}
        return Batch(tensors, self.targets[index], self.person[index], rows)

    def batches(self, size: int) -> Iterator[Batch]:
        """All windows in order; the last batch may be smaller, and nothing is left out."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))


def deal_batches(
    windows: WindowSet, size: int, generator: np.random.Generator, *, steps: int | None = None, each: int = 1
) -> Iterator[Tensor]:
    """Indices of one epoch's batches, in which people are mixed as evenly as they can be; of `steps`, where given.

    `each` windows of a person come together, so that a batch holds several of each of fewer people.

    Where labels are few, at least half of each batch is labelled, or all that are where these are fewer; an epoch goes
    once through the longer of the two piles, and several times through the other. No window stands twice in a batch.
    The windows of an incomplete last batch stay for the next epoch, since a loss over a batch (CCC, similarity)
    changes its meaning with the batch's size.
    """
    if not len(windows):
        return
    size = min(size, len(windows))
    labelled = has_target(windows.targets).numpy()
    lessons = min(size, int(labelled.sum()), round(size * max(LABELLED_SHARE, float(labelled.mean()))))
    pairs = size - lessons
    if labelled.all() or not labelled.any() or not pairs:
        everything = np.arange(len(windows))
        if steps is not None:
            yield from islice(_endless(windows, everything, size, generator, each), steps)
            return
        order = _mixed(windows, everything, generator, each)
        yield from (order[start : start + size] for start in range(0, len(order) - size + 1, size))
        return
    with_label, without = np.flatnonzero(labelled), np.flatnonzero(~labelled)
    lesson, pair = (_endless(windows, *of, generator, each) for of in ((with_label, lessons), (without, pairs)))
    if steps is None:
        steps = max(1, len(with_label) // lessons, len(without) // pairs)
    for _ in range(steps):
        yield torch.cat([next(lesson), next(pair)])


def steps_of_epoch(windows: WindowSet, size: int) -> int:
    """How many batches `deal_batches` makes of an epoch."""
    return sum(1 for _ in deal_batches(windows, size, np.random.default_rng(0)))


def _mixed(windows: WindowSet, index: NDArray[np.intp], generator: np.random.Generator, each: int) -> Tensor:
    """`index` in an order in which each person's windows are shuffled and spread evenly.

    Every batch cut from it holds people in the proportions of the whole: all of them, where they have equally many
    windows and the size is a multiple of their number. Of a person's windows `each` stay together.
    """
    person = windows.person.numpy()[index]
    piles = [generator.permutation(np.flatnonzero(person == p)) for p in np.unique(person)]
    rounds = max(-(-len(pile) // each) for pile in piles)
    turns = generator.permuted(np.tile(np.arange(len(piles)), (rounds, 1)), axis=1)  # (rounds, people)
    places = np.empty(len(person))  # of each window in the epoch, 0..1
    for p, pile in enumerate(piles):
        number = np.arange(len(pile)) // each  # of the windows that stay together
        places[pile] = (number + turns[number, p] / len(piles)) / (number[-1] + 1)
    return torch.from_numpy(index[np.argsort(places, kind="stable")])


def _endless(
    windows: WindowSet, index: NDArray[np.intp], size: int, generator: np.random.Generator, each: int
) -> Iterator[Tensor]:
    """Batches of `index` for as long as they are asked for, each round in a new order; `size` is at most its length.

    A batch that the end of one round begins is filled from the next with others: theirs come later in that round.
    """
    waiting = torch.zeros(0, dtype=torch.int64)
    while True:
        batch, waiting = waiting[:size], waiting[size:]
        if len(batch) < size:
            order = _mixed(windows, index, generator, each)
            others = order[~torch.isin(order, batch)][: size - len(batch)]
            batch, waiting = torch.cat([batch, others]), order[~torch.isin(order, others)]
        yield batch
