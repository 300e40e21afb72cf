"""The T-Net's loss: how far its features are from the teacher's, and how far it expects them to be.

Axes: B windows, L steps, D features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.nets.student import Student
from models.nets.teacher import Forward
from training.stage_config import TNetConfig


def hallucination_loss(student: Student, out: Forward, teacher: Forward, config: TNetConfig) -> Tensor:
    """The mean over the hallucinated modalities, a scalar: squared error, cosine term, and the likelihood below."""
    losses = []
    for name in student.hallucinated:
        made, real = out.features[name], teacher.features[name].detach()
        error = squared_error(made, real, student.tnet(name).spread)  # (B,)
        losses.append(error.mean() + expected_error_loss(out.log_variance[name], error))
        if config.cosine_weight:
            losses[-1] = losses[-1] + config.cosine_weight * (1.0 - F.cosine_similarity(made, real, dim=2).mean())
    return torch.stack(losses).mean()


def squared_error(made: Tensor, real: Tensor, spread: Tensor) -> Tensor:
    """(B, L, D) twice to (B,): the mean squared error in units of the target's spread (D,)."""
    return ((made - real) / spread).square().mean(dim=(1, 2))


def expected_error_loss(log_variance: Tensor, error: Tensor) -> Tensor:
    """The Gaussian negative log-likelihood of errors (B,) for the predicted log-variance (B,), a scalar.

    Kendall and Gal, NeurIPS 2017 (arXiv 1703.04977), eq. 5. The error is a number here: it teaches the prediction of
    the error, and never the features.
    """
    return 0.5 * (error.detach() * (-log_variance).exp() + log_variance).mean()
