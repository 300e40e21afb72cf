"""Standardisation by person: an option that every result names, since it needs to know who is who."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from models.nets.features import unit
from models.spec import InputSpec
from training.data.window_set import WindowSet


def standardised_by_person(windows: WindowSet, modalities: Collection[str], inputs: InputSpec) -> WindowSet:
    """The same windows, all of a corpus, with `modalities` centred and scaled over each person's windows.

    A signal (N, C, T) is scaled by channel, features (N, F) or (N, L, F) each for itself. No label is used, but all of
    a person's recordings are seen at once. NaN stays NaN.
    """
    store = dict(windows.store)
    for name in modalities:
        values = store[name].double()
        axes = (0, 2) if name in inputs.signals else tuple(range(values.ndim - 1))
        scaled = torch.empty_like(values)
        for person in torch.unique(windows.person):
            own = windows.rows[windows.person == person]
            scaled[own] = _standardised(values[own], axes)
        store[name] = scaled.float()
    return replace(windows, store=store)


def _standardised(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    there = values.isfinite()
    count = there.sum(dim=axes, keepdim=True).clamp(min=1)
    centre = torch.where(there, values, 0.0).sum(dim=axes, keepdim=True) / count
    squares = torch.where(there, values - centre, 0.0).square().sum(dim=axes, keepdim=True)
    spread = (squares / count).sqrt()
    return (values - centre) / unit(centre, spread)
