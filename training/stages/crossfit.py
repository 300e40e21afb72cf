"""Cross-fitting: several teachers, each trained without one part of the training people, and teaching that part.

Encoders of stage 0 have seen all training people. So cross-fitted teachers have encoders of their own, trained on the
people that they may see; teachers that leave out the same people share them.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.nets.teacher import Teacher
from training.data.window_set import WindowSet
from training.errors import TrainingError
from training.loop.loop import FitReport
from training.run_folder import RunFolder
from training.stages.encoders import kept_encoder
from training.stages.setting import Setting
from training.stages.teacher import train_teacher


def fold_of_person(setting: Setting) -> Tensor:
    """int64 (people,): which teacher teaches each of the training people; others get 0."""
    return dealt_people(setting, setting.config.teacher.cross_fits)


def dealt_people(setting: Setting, parts: int) -> Tensor:
    """int64 (people,): which of so many parts each training person belongs to, dealt evenly; others get 0."""
    part = torch.zeros(len(setting.train.people), dtype=torch.int64)
    people = torch.unique(setting.train.person).numpy()
    order = np.random.default_rng([setting.config.seed, 17]).permutation(people)
    for place, person in enumerate(order):
        part[person] = place % parts
    return part


def unseen(windows: WindowSet, fold: Tensor, number: int) -> WindowSet:
    """The windows that a net may be trained on which leaves part `number` of the people out."""
    return windows.pick(fold[windows.person] != number)


def train_cross_fitted(
    setting: Setting, folder: RunFolder, modalities: tuple[str, ...], number: int
) -> tuple[Teacher, FitReport]:
    """Teacher `number` of the cross-fitted ones: encoders, kept in `folder`, and all on those whom it will not teach.

    Raises TrainingError where these leave it too few labels: labels may be few, and all of a few people.
    """
    own = replace(setting, train=unseen(setting.train, fold_of_person(setting), number))
    kinds = len(torch.unique(own.pairs.labelled().targets, dim=0))
    if kinds < 2:
        raise TrainingError(
            f"cross-fitted teacher {number} learns without the people whom it teaches, and the others have labels of "
            f"{kinds} kinds, where it needs two: give a larger labels.fraction, or labels.by class"
        )
    encoders = {m: kept_encoder(own, folder, m, f"encoder-{m}-cross{number}") for m in modalities}
    return train_teacher(own, encoders, modalities, name=f"teacher-{'+'.join(modalities)}-cross{number}")
