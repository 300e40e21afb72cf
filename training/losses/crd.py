"""Contrastive representation distillation: of a batch's teacher features, which belong to this student's sample?

Tian, Krishnan and Isola, ICLR 2020 (arXiv 1910.10699): maximise a lower bound of the mutual information between
student and teacher features by telling pairs of one sample from pairs of two. Their critic compares linear projections
of both, scaled to length 1, with a temperature tau. Their negatives come from a memory bank of the whole training set.
Here they come from the batch, in the form of InfoNCE (van den Oord et al., arXiv 1807.03748, eq. 4), in both
directions:

    L = (L_st + L_ts) / 2,   L_st = -1/B sum_i log( exp(u_i v_i / tau) / sum_j exp(u_i v_j / tau) ),

u and v the projected student and teacher, L_ts with i and j exchanged in the sum. A bank of a few thousand negatives
does not pay for corpora of a few thousand windows: it would hold features of students and projections that are gone,
belong to the checkpoint, and know the size of the corpus.

Axes: B samples, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CRDLoss(nn.Module):
    """The loss with its projections, which train beside the student: `parameters()` belong into the optimiser."""

    def __init__(self, *, student_dim: int, teacher_dim: int, dim: int = 128, temperature: float = 0.1) -> None:
        super().__init__()
        self.student = nn.Linear(student_dim, dim)
        self.teacher = nn.Linear(teacher_dim, dim)
        self.temperature = temperature

    def forward(self, student_z: Tensor, teacher_z: Tensor) -> Tensor:
        """The loss of student_z (B, D_s) with teacher_z (B, D_t), a scalar from 0, about log B for features by chance.

        No gradient reaches the teacher; its projection learns.
        """
        with torch.autocast(student_z.device.type, enabled=False):
            dtype = self.student.weight.dtype
            u = F.normalize(self.student(student_z.to(dtype)), dim=1)  # (B, dim)
            v = F.normalize(self.teacher(teacher_z.detach().to(dtype)), dim=1)  # (B, dim)
            logits = torch.mm(u, v.T) / self.temperature  # (B, B)
            own = torch.arange(len(logits), device=logits.device)
            return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
