"""The student: encoders for what is there, a T-Net for each modality that is not, fusion, head.

This is the graph that is exported: available inputs in, output out (PKDOT, arXiv 2401.15489, fig. 2).
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.nets.encoders import build_encoder
from models.nets.fusion import build_fusion
from models.nets.heads import build_head
from models.nets.network import NetworkSpec
from models.nets.teacher import Forward
from models.nets.tnet import TNet
from models.spec import InputSpec, Task


class Student(nn.Module):
    """{available modality: tensor} to `Forward`; the fusion sees available and hallucinated modalities alike.

    `outputs` is the head's width, see `models.nets.heads.build_head`.
    """

    def __init__(
        self,
        available: Sequence[str],
        hallucinated: Sequence[str],
        inputs: InputSpec,
        network: NetworkSpec,
        *,
        task: Task,
        outputs: int,
    ) -> None:
        super().__init__()
        self.available, self.hallucinated = tuple(available), tuple(hallucinated)
        self.encoders = nn.ModuleDict(
            {
                name: build_encoder(name, inputs, network.encoder(name), dim=network.dim, steps=network.steps)
                for name in self.available
            }
        )
        self.tnets = nn.ModuleDict(
            {
                name: TNet(self.available, dim=network.dim, steps=network.steps, body=network.tnet)
                for name in self.hallucinated
            }
        )
        self.fusion = build_fusion(
            network.fusion, self.available + self.hallucinated, dim=network.dim, steps=network.steps
        )
        self.head = build_head(task, dim=network.dim, outputs=outputs)

    def tnet(self, name: str) -> TNet:
        """The T-Net that hallucinates modality `name`."""
        net = self.tnets[name]
        assert isinstance(net, TNet)  # nn.ModuleDict knows its members as Module only
        return net

    def encode(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features (B, L, D) of what is there."""
        return {name: self.encoders[name](tensors[name]) for name in self.available}

    def forward(self, tensors: Mapping[str, Tensor]) -> Forward:
        features = self.encode(tensors)
        made = {name: self.tnet(name).predict(features) for name in self.hallucinated}
        features |= {name: hallucination.features for name, hallucination in made.items()}
        z = self.fusion(features)
        log_variance = {name: hallucination.log_variance for name, hallucination in made.items()}
        return Forward(features, z, self.head(z), log_variance)
