"""Point-to-point distillation: each sample's output or features are drawn to the teacher's for the same sample.

Baselines beside PKDOT. No gradient reaches the teacher. Axes: B samples, D features, K levels or classes, C values.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.task import ccc_loss


def kd_levels_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) between the level distributions of CORN logits (B, K - 1) divided by T: a scalar.

    Hinton, Vinyals and Dean, arXiv 1503.02531, sec. 2, for an ordinal head. A level distribution is a chain of
    conditional Bernoullis, so by the chain rule its KL is the sum over thresholds j of
    P_t(y > j - 1) KL(Bernoulli_t,j || Bernoulli_s,j).
    """
    t, s = teacher.detach() / temperature, student / temperature
    p = torch.sigmoid(t)  # (B, K-1): P_t(y > j | y > j - 1)
    reached = torch.cat([torch.ones_like(p[:, :1]), p.cumprod(1)[:, :-1]], 1)  # (B, K-1): P_t(y > j - 1)
    cross = F.binary_cross_entropy_with_logits(s, p, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(t, p, reduction="none")
    return temperature**2 * (reached * (cross - entropy)).sum(1).mean()


def kd_classes_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) between the class distributions of logits (B, K) divided by T: a scalar.

    Hinton, Vinyals and Dean, arXiv 1503.02531, sec. 2.
    """
    log_student, log_teacher = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher.detach()))
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def kd_values_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - the mean CCC of values (B, C) with the teacher's: the task's own loss with a softer target."""
    return ccc_loss(student, teacher.detach())


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of features (B, D) of one width: a scalar.

    Romero et al., "FitNets", ICLR 2015 (arXiv 1412.6550), eq. 3, without their regressor, which widths of one size do
    not need.
    """
    return F.mse_loss(student, teacher.detach())


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - the mean cosine between a sample's features and the teacher's, (B, D) both: a scalar in [0, 2]."""
    return 1.0 - F.cosine_similarity(student, teacher.detach(), dim=1).mean()
