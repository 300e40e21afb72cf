"""The oracle: the student with the teacher's real features in place of what its T-Net would hallucinate.

A bound that no one can reach in the field. It says how much of the gap to the teacher is the T-Net's.
"""

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher


class Oracle(nn.Module):
    """{modality: tensor}, all of them, to `Forward`; frozen encoders of the teacher's see what the student lacks.

    They are copies because they are frozen here, and the teacher itself teaches other rows.
    """

    def __init__(self, student: Student, teacher: Teacher) -> None:
        super().__init__()
        self.student = student
        self.real = nn.ModuleDict({name: copy.deepcopy(teacher.encoders[name]) for name in student.hallucinated})
        self.real.requires_grad_(False)

    def forward(self, tensors: Mapping[str, Tensor]) -> Forward:
        features = self.student.encode(tensors) | {name: net(tensors[name]) for name, net in self.real.items()}
        z = self.student.fusion(features)
        return Forward(features, z, self.student.head(z))
