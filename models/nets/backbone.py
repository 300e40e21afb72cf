"""A network that came with its weights, inside one of ours."""

import hashlib
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.nets.errors import WeightsFileError


class Backbone(nn.Module):
    """Runs `net`, and keeps its batch normalisation on the statistics that came with the weights.

    Statistics of the batch would make a sample's answer depend on who shares the batch, and a small batch of a few
    people would replace those of a large corpus. A frozen net gets no gradient, and has no dropout either.

    The state of a frozen one is no more than its digest: its weights lie in their own file, and a checkpoint for each
    row and person who is left out would hold them again. WeightsFileError where a state is of other weights.
    """

    def __init__(self, net: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.net = net
        self.frozen = frozen
        if frozen:
            net.requires_grad_(False)
            self.register_state_dict_post_hook(_leave_out_weights)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(_require_same_weights)  # type: ignore[no-untyped-call]
        self.train(self.training)

    @cached_property
    def digest(self) -> Tensor:
        """uint8 (32,): SHA-256 of the weights, which must not change any more."""
        digest = hashlib.sha256()
        for name, values in self.net.state_dict().items():
            digest.update(name.encode() + values.cpu().contiguous().numpy().tobytes())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.net.modules():
            if self.frozen or isinstance(module, _BatchNorm):
                module.training = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


def _leave_out_weights(backbone: Backbone, state: dict[str, Any], prefix: str, _: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}net.")]:
        del state[name]
    state[f"{prefix}digest"] = backbone.digest


def _require_same_weights(backbone: Backbone, state: dict[str, Any], prefix: str, *_: object) -> None:
    digest = state.pop(f"{prefix}digest", None)
    if digest is None:
        return  # of an earlier version, which kept the weights themselves
    if not torch.equal(digest.cpu(), backbone.digest):
        raise WeightsFileError(
            f"{prefix.removesuffix('.')}: the frozen weights are not those that this was trained with; give back the "
            "file or model of that time, or train again, into another folder"
        )
    state.update(backbone.net.state_dict(prefix=f"{prefix}net."))
