"""Several teachers: the two terms that MT-PKDOT adds to the structural OT loss.

Aslam et al., "Multi Teacher Privileged Knowledge Distillation for Multimodal Expression Recognition" (MT-PKDOT, arXiv
2408.09035). Axes: B samples, D features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.ot import check_embeddings, similarity


def centroid_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """|mean column of S_s - mean column of S_t|_2 for `student` (B, D_s) and `teacher` (B, D_t): a scalar.

    S are the cosine similarities as they are, all columns and no minimum subtracted. No gradient reaches the teacher.
    Raises ValueError for shapes that do not fit and numbers that are not finite.
    """
    check_embeddings(student, teacher)
    s_student, s_teacher = similarity(student), similarity(teacher.detach())  # (B, B)
    distance: Tensor = torch.linalg.vector_norm(s_student.mean(1) - s_teacher.mean(1))
    return distance


def alignment_loss(prevalent: Tensor, privileged: Tensor, joint: Tensor) -> Tensor:
    """(1 - cos(prevalent, joint))/2 + (1 - cos(privileged, joint))/2, the mean over samples: a scalar in [0, 2].

    All are (B, D). `prevalent` and `privileged` are a modality's features after its adapter, `joint` the fused
    representation. The gradient reaches all three: adapters and fusion are trained together.
    """
    cosines = F.cosine_similarity(prevalent, joint, dim=1) + F.cosine_similarity(privileged, joint, dim=1)
    return 1.0 - cosines.mean() / 2
