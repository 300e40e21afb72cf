"""Fusion networks: {modality: (B, L, D)} to the joint representation z (B, D)."""

from collections.abc import Sequence

from torch import nn

from models.nets.fusion.concat import ConcatFusion
from models.nets.fusion.jca import JointCrossAttentionFusion
from models.nets.fusion.lfan import LeaderFollowerFusion
from models.nets.fusion.transformer import TransformerFusion
from models.nets.network import FusionName


def build_fusion(name: FusionName, modalities: Sequence[str], *, dim: int, steps: int) -> nn.Module:
    """The fusion network called `name` for `modalities`, in their order."""
    if name == "transformer":
        return TransformerFusion(modalities, dim=dim, steps=steps)
    if name == "jca":
        return JointCrossAttentionFusion(modalities, dim=dim, steps=steps)
    if name == "lfan":
        return LeaderFollowerFusion(modalities, dim=dim)
    return ConcatFusion(modalities, dim=dim)
