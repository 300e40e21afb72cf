"""Several teachers: the two terms that MT-PKDOT adds to the structural OT loss, and the losses that choose by sample.

Aslam et al., "Multi Teacher Privileged Knowledge Distillation for Multimodal Expression Recognition" (MT-PKDOT, arXiv
2408.09035). Axes: B samples, D features, K levels or classes, C values.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.spec import Task
from training.data.window_set import has_target
from training.losses.ot import check_embeddings, similarity
from training.losses.task import LOSSES


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


def sample_losses(task: Task, output: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sample by itself, (B,), in the dtype of `output`; 0 for one without a target.

    `output` is (B, K - 1) for pain, (B, K) or (B, C); `targets` are int64 (B,), -1 for none, or (B, C), NaN for none.
    Levels and classes: the task's loss of a batch of one. Values: the squared error, mean over C, since 1 - CCC is the
    batch's squared error over a spread that only a batch has.
    """
    if targets.ndim == 2:
        losses = (output - targets).square().mean(1)
    else:
        losses = torch.vmap(LOSSES[task])(output[:, None], targets.clamp(min=0)[:, None])
    return torch.where(has_target(targets), losses, 0.0)
