"""Average pooling of a sequence to a fixed number of steps, as one matrix product, so that it exports to ONNX."""

import torch
from torch import Tensor, nn


class PoolSteps(nn.Module):
    """(B, L, D) to (B, steps, D): each output step is the mean of its share of the input steps."""

    def __init__(self, length: int, steps: int) -> None:
        super().__init__()
        edges = torch.linspace(0, length, steps + 1)
        starts, ends = edges[:-1, None], edges[1:, None]  # (steps, 1)
        cells = torch.arange(length)[None, :]  # (1, L)
        overlap = (torch.minimum(cells + 1, ends) - torch.maximum(cells, starts)).clamp(min=0)  # (steps, L)
        self.weights: Tensor
        self.register_buffer("weights", overlap / overlap.sum(dim=1, keepdim=True), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights @ x  # (steps, L) @ (B, L, D) -> (B, steps, D)
