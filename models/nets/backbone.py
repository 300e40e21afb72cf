"""A network that came with its weights, inside one of ours."""

from typing import Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Backbone(nn.Module):
    """Runs `net`, and keeps its batch normalisation on the statistics that came with the weights.

    Statistics of the batch would make a sample's answer depend on who shares the batch, and a small batch of a few
    people would replace those of a large corpus. A frozen net gets no gradient, and has no dropout either.
    """

    def __init__(self, net: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.net = net
        self.frozen = frozen
        if frozen:
            net.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.net.modules():
            if self.frozen or isinstance(module, _BatchNorm):
                module.training = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]
