"""Structural distillation: how samples stand to each other is drawn to how they stand for the teacher.

Baselines beside PKDOT. Each takes student (B, D_s) and teacher (B, D_t) and gives a scalar; no gradient reaches the
teacher. Axes: B samples, D features.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.ot import similarity
from training.losses.sinkhorn import sinkhorn_divergence

TINY = 1e-12


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving: |G_t - G_s|_F^2 / B^2, G the rows of Z Z^T scaled to length 1.

    Tung and Mori, ICCV 2019 (arXiv 1907.09682), eq. 2 to 4.
    """
    g_student, g_teacher = (F.normalize(z @ z.T, dim=1) for z in (student, teacher.detach()))
    return (g_teacher - g_student).square().mean()


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational, distances: the Huber loss of pairwise distances in units of their mean, over pairs i != j.

    Park et al., CVPR 2019 (arXiv 1904.05068), eq. 4 to 7.
    """
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher.detach()))


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational, angles: the Huber loss of cos(angle at j of the triplet i, j, k), over all triplets.

    Park et al., CVPR 2019 (arXiv 1904.05068), eq. 8 to 10.
    """
    return F.smooth_l1_loss(_angles(student), _angles(teacher.detach()))


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Probabilistic knowledge transfer: KL of each sample's neighbour probabilities, cosine kernel, mean over samples.

    Passalis and Tefas, ECCV 2018 (arXiv 1803.10837), eq. 5 to 8.
    """
    p, q = _neighbour_probabilities(teacher.detach()), _neighbour_probabilities(student)
    return (p * ((p + TINY) / (q + TINY)).log()).sum(1).mean()


def cc_loss(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Correlation congruence: the mean squared difference of Gaussian kernels, as Taylor series on unit vectors.

    Peng et al., ICCV 2019 (arXiv 1904.01802), eq. 7 to 9: k(x, y) = sum_p exp(-2 gamma) (2 gamma)^p / p! (x y)^p.
    """

    def kernel(z: Tensor) -> Tensor:
        s = similarity(z)  # (B, B)
        terms = [(2 * gamma) ** p / math.factorial(p) * s**p for p in range(order + 1)]
        return math.exp(-2 * gamma) * torch.stack(terms).sum(0)

    return F.mse_loss(kernel(student), kernel(teacher.detach()))


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """|S_s - S_t|_F^2 / B^2 between the cosine similarities less their minima: PKDOT's matrices, compared in pairs."""
    s_student, s_teacher = (s - s.min() for s in (similarity(student), similarity(teacher.detach())))
    return F.mse_loss(s_student, s_teacher)


def feature_ot_loss(student: Tensor, teacher: Tensor, *, blur: float) -> Tensor:
    """The debiased entropic OT divergence between the features themselves, scaled to length 1; one width only."""
    return sinkhorn_divergence(F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1), blur=blur)


def _relative_distances(z: Tensor) -> Tensor:
    """(B (B - 1) / 2,), in units of their mean."""
    distances = F.pdist(z)
    return distances / distances.mean().clamp(min=TINY)


def _angles(z: Tensor) -> Tensor:
    """(B, B, B): cos of the angle between z_i - z_j and z_k - z_j, at [j, i, k]."""
    e = F.normalize(z[None, :, :] - z[:, None, :], dim=2)  # (B, B, D)
    return e @ e.transpose(1, 2)


def _neighbour_probabilities(z: Tensor) -> Tensor:
    """(B, B), zero on the diagonal, rows sum to 1."""
    kernel = (similarity(z) + 1.0) / 2.0
    kernel = kernel * (1.0 - torch.eye(len(z), device=z.device, dtype=kernel.dtype))
    return kernel / kernel.sum(1, keepdim=True).clamp(min=TINY)
