"""Variational information distillation: how well can the teacher's features be told from the student's?

Ahn, Hu, Damianou, Lawrence and Dai, CVPR 2019 (arXiv 1904.05835): a lower bound of the mutual information of teacher t
and student s, E log q(t | s), with a Gaussian q whose mean mu(s) is a network and whose variance is one learned number
for each dimension, kept positive by a softplus:

    -log q(t | s) = sum_d [ log sigma_d + (t_d - mu_d(s))^2 / (2 sigma_d^2) ] + const,
    sigma_d^2 = log(1 + exp(alpha_d)) + epsilon.

So a dimension that the student cannot tell costs little: its variance grows. The mean over dimensions stands in place
of the sum here, so that one weight serves every width.

Axes: B samples, D features.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_VARIANCE = 1e-5
"""Epsilon: a dimension that is told exactly must not gain without end."""


class VIDLoss(nn.Module):
    """The loss with its mean network and variances, which train beside the student: `parameters()` join its own."""

    def __init__(self, *, student_dim: int, teacher_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(student_dim, hidden), nn.ReLU(), nn.Linear(hidden, teacher_dim))
        self.alpha = nn.Parameter(torch.full((teacher_dim,), math.log(math.e - 1)))  # variances begin at 1

    @property
    def variance(self) -> Tensor:
        """sigma^2 (D_t,)."""
        return F.softplus(self.alpha) + LEAST_VARIANCE

    def forward(self, student_z: Tensor, teacher_z: Tensor) -> Tensor:
        """The loss of student_z (B, D_s) with teacher_z (B, D_t): a scalar, below 0 for small variances.

        No gradient reaches the teacher.
        """
        with torch.autocast(student_z.device.type, enabled=False):
            mean: Tensor = self.mean(student_z.to(self.alpha.dtype))  # (B, D_t)
            target = teacher_z.detach().to(self.alpha.dtype)
            return ((self.variance.log() + (target - mean).square() / self.variance) / 2).mean()
