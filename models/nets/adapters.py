"""MT-PKDOT's aligned teachers: one adapter and one head for each modality-specific teacher beside the joint one.

Aslam et al., "Multi Teacher Privileged Knowledge Distillation for Multimodal Expression Recognition"
(arXiv 2408.09035). Axes: B windows, D features.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from models.nets.heads import build_head
from models.nets.teacher import Forward, Teacher
from models.spec import Task


class AlignedTeachers(nn.Module):
    """{modality: tensor} to what each of three teachers says, all in the joint teacher's space.

    The prevalent and the privileged teacher stay as they are; their adapters and heads, and the joint teacher's fusion
    and head, are trained.
    """

    def __init__(
        self, joint: Teacher, prevalent: Teacher, privileged: Teacher, *, dim: int, task: Task, outputs: int
    ) -> None:
        super().__init__()
        self.joint = joint
        self.own = nn.ModuleDict({"prevalent": prevalent, "privileged": privileged})
        self.adapters = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)) for name in self.own}
        )
        self.heads = nn.ModuleDict({name: build_head(task, dim=dim, outputs=outputs) for name in self.own})
        self.own.requires_grad_(False)
        self.joint.encoders.requires_grad_(False)

    def forward(self, tensors: Mapping[str, Tensor]) -> dict[str, Forward]:
        """`joint`, `prevalent` and `privileged`: z (B, D) in one space, and each one's own output."""
        joint: Forward = self.joint(tensors)
        said = {"joint": joint}
        for name, teacher in self.own.items():
            z = self.adapters[name](teacher(tensors).z)  # (B, D)
            said[name] = Forward({}, z, self.heads[name](z))
        return said
