"""What teachers say of training windows that look the same at every step: asked once, and not at each step.

Axes: M windows of the corpus, N that are kept, B of a batch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from models.nets.teacher import Forward
from training.data.window_set import Batch, WindowSet

MOST_BYTES: Final = 1 << 28
"""Of what one teacher says: one that says more is asked at each step."""

Said = Mapping[str, Forward]
"""What a net says of some windows; several teachers that are one net have names."""


class Kept(NamedTuple):
    """What was said of N windows."""

    said: Said
    place: Tensor
    """int64 (M,): where among the N each window of the corpus is; -1 where it is none of them."""


class Memory:
    """Of one run's training windows. Whom it is asked about must not be trained any more."""

    def __init__(self) -> None:
        self.kept: WeakKeyDictionary[nn.Module, Kept | None] = WeakKeyDictionary()
        """None for those who say too much. A teacher whom nobody holds any more is forgotten."""

    def recall(self, net: nn.Module, batch: Batch, learn: Callable[[], Kept | None]) -> Said | None:
        """What `net` said of a batch; None where that is not known of each of its windows.

        `learn` asks it, where it was not met before.
        """
        if net not in self.kept:
            self.kept[net] = learn()
        kept = self.kept[net]
        if kept is None:
            return None
        place = kept.place[batch.rows]
        if bool((place < 0).any()):
            return None
        return {who: one.each(lambda values: values[place.to(values.device)]) for who, one in kept.said.items()}


def keep(answers: Iterable[Said], windows: WindowSet) -> Kept | None:
    """All `answers` of `windows`, which come in their order, a few at a time; None as soon as they are too much."""
    parts: list[Said] = []
    known, size = 0, 0
    for said in answers:
        parts.append(said)
        known += len(next(iter(said.values())).z)
        size += sum(map(bytes_of, said.values()))
        if size * len(windows) > MOST_BYTES * known:
            return None
    if not parts:
        return None
    place = torch.full((len(next(iter(windows.store.values()))),), -1)
    place[windows.rows] = torch.arange(len(windows))
    return Kept({who: joined([part[who] for part in parts]) for who in parts[0]}, place)


def bytes_of(said: Forward) -> int:
    """Of all that it holds."""
    return sum(values.nbytes for values in (*said.features.values(), said.z, said.output, *said.log_variance.values()))


def joined(parts: Sequence[Forward]) -> Forward:
    """What came out of one batch after the other, along N; of at least one."""
    return Forward(
        {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features},
        torch.cat([part.z for part in parts]),
        torch.cat([part.output for part in parts]),
        {name: torch.cat([part.log_variance[name] for part in parts]) for name in parts[0].log_variance},
    )
