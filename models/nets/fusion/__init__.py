"""Fusion networks: {modality: (B, L, D)} to the joint representation z (B, D)."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from models.nets.fusion.concat import ConcatFusion
from models.nets.fusion.transformer import TransformerFusion

FusionName = Literal["transformer", "concat"]


def build_fusion(name: FusionName, modalities: Sequence[str], *, dim: int, steps: int) -> nn.Module:
    """The fusion network called `name` for `modalities`, in their order."""
    if name == "transformer":
        return TransformerFusion(modalities, dim=dim, steps=steps)
    return ConcatFusion(modalities, dim=dim)
