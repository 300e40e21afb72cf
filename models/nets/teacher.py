"""The teacher: one encoder for each modality, fusion, joint representation, head. It sees everything."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from models.nets.encoders import build_encoder
from models.nets.fusion import build_fusion
from models.nets.heads import build_head
from models.nets.network import NetworkSpec
from models.spec import InputSpec, Task


class Forward(NamedTuple):
    """What a network computed: encoded and hallucinated features, the joint representation, and the output."""

    features: dict[str, Tensor]
    """Modality to (B, L, D), as the fusion received them."""
    z: Tensor
    """(B, D)"""
    output: Tensor
    """pain: CORN logits (B, K - 1); classification: logits (B, K); valence-arousal: (B, 2); regression: (B, C)."""
    log_variance: Mapping[str, Tensor] = {}
    """Hallucinated modality to (B,): how wrong its T-Net expects to be, see `models.nets.tnet.Hallucination`."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Forward":
        """The same with every tensor changed."""
        return Forward(
            {name: change(values) for name, values in self.features.items()},
            change(self.z),
            change(self.output),
            {name: change(values) for name, values in self.log_variance.items()},
        )


class Teacher(nn.Module):
    """{modality: tensor} to `Forward`, for all of `modalities`. Also every bound that hallucinates nothing.

    `outputs` is the head's width, see `models.nets.heads.build_head`.
    """

    def __init__(
        self, modalities: Sequence[str], inputs: InputSpec, network: NetworkSpec, *, task: Task, outputs: int
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.encoders = nn.ModuleDict(
            {
                name: build_encoder(name, inputs, network.encoder(name), dim=network.dim, steps=network.steps)
                for name in self.modalities
            }
        )
        self.fusion = build_fusion(network.fusion, self.modalities, dim=network.dim, steps=network.steps)
        self.head = build_head(task, dim=network.dim, outputs=outputs)

    def forward(self, tensors: Mapping[str, Tensor]) -> Forward:
        features = {name: self.encoders[name](tensors[name]) for name in self.modalities}
        z = self.fusion(features)
        return Forward(features, z, self.head(z))
