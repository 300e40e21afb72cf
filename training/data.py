"""Windows of a corpus as tensors, with who they are of; and the order in which batches are dealt.

Axes: N windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Some windows: modality to (B, ...), and targets (B,) or (B, 2)."""

    tensors: dict[str, Tensor]
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch({name: values.to(device) for name, values in self.tensors.items()}, self.targets.to(device))


@dataclass(frozen=True)
class WindowSet:
    """N windows. Where a modality was not observed its rows hold zeros, and `observed` says so."""

    tensors: dict[str, Tensor]
    observed: dict[str, Tensor]
    """Modality to bool (N,)."""
    targets: Tensor
    """pain: int64 (N,), -1 where there is none; valence-arousal: float32 (N, 2), NaN where there is none."""
    person: Tensor
    """int64 (N,): index into `people`."""
    clip: Tensor
    """int64 (N,): index into the corpus's clips."""
    spans_s: Tensor
    """float64 (N, 2): start and end on the clip's clock."""
    people: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.person)

    def pick(self, chosen: Tensor) -> "WindowSet":
        """The windows at `chosen`: indices, or a bool mask (N,)."""
        index = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
        return WindowSet(
            {name: values[index] for name, values in self.tensors.items()},
            {name: values[index] for name, values in self.observed.items()},
            self.targets[index],
            self.person[index],
            self.clip[index],
            self.spans_s[index],
            self.people,
        )

    def of_people(self, names: frozenset[str]) -> "WindowSet":
        """Only these people's windows."""
        wanted = torch.tensor([name in names for name in self.people], dtype=torch.bool)
        return self.pick(wanted[self.person])

    def labelled(self) -> "WindowSet":
        """Only windows with a target."""
        targets = self.targets
        return self.pick(targets >= 0 if targets.ndim == 1 else targets.isfinite().all(dim=1))

    def with_all(self, modalities: Sequence[str]) -> "WindowSet":
        """Only windows in which all of `modalities` were observed."""
        mask = torch.ones(len(self), dtype=torch.bool)
        for name in modalities:
            mask &= self.observed[name]
        return self.pick(mask)

    def batch(self, index: Tensor) -> Batch:
        return Batch({name: values[index] for name, values in self.tensors.items()}, self.targets[index])

    def batches(self, size: int) -> Iterator[Batch]:
        """All windows in order; the last batch may be smaller, and nothing is left out."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))


def deal_batches(person: Tensor, size: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """Indices of one epoch's batches, in which people are mixed as evenly as they can be.

    Each person's windows are shuffled and spread evenly over the epoch, so that every batch holds people in the
    proportions of the whole: all of them, where they have equally many windows and `size` is a multiple of their
    number. The windows of an incomplete last batch stay for the next epoch, since a loss over a batch (CCC, similarity)
    changes its meaning with the batch's size.
    """
    piles = [generator.permutation(np.flatnonzero(person.numpy() == p)) for p in np.unique(person.numpy())]
    if not piles:
        return
    rounds = max(len(pile) for pile in piles)
    turns = generator.permuted(np.tile(np.arange(len(piles)), (rounds, 1)), axis=1)  # (rounds, people)
    places = np.empty(len(person))  # of each window in the epoch, 0..1
    for p, pile in enumerate(piles):
        places[pile] = (np.arange(len(pile)) + turns[: len(pile), p] / len(piles)) / len(pile)
    order = torch.from_numpy(np.argsort(places, kind="stable"))
    size = min(size, len(order))
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]
