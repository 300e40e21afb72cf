"""Scores of training people by nets of the same recipe that did not see them, where calibration people are too few.

Each part of the training people is left out of a run of its own, whose folder lies below the run's. Selection people
are the same in all of them: they have chosen epochs and temperatures, and are scored by nobody.
"""

from dataclasses import replace

import numpy as np
import torch

from training.loop.tracking import track_nothing
from training.run_folder import RunFolder
from training.scores.calibrate import OutOfFold, people_needed
from training.stages.calibration import fitted_temperature, output_scores, said_of
from training.stages.crossfit import dealt_people, unseen
from training.stages.kept import label, load_student, shared_stages, student_stages
from training.stages.methods import ROWS
from training.stages.setting import Setting


def sets_with_few_people(setting: Setting) -> list[tuple[str, ...]]:
    """The sets of available modalities whose quantiles must come from out-of-fold scores; none where nobody asks."""
    config = setting.config
    if config.calibration.few_people == "none":
        return []
    needed = people_needed(config.confidence_level)
    calibrate = setting.calibrate
    return [a for a in config.students if len(torch.unique(calibrate.with_all(a).labelled().person)) < needed]


def without_part(setting: Setting, number: int) -> Setting:
    """The setting in which the people of part `number` do not train; its curves are nobody's."""
    part = dealt_people(setting, setting.config.calibration.parts)
    return replace(setting, train=unseen(setting.train, part, number), track=track_nothing)


def train_out_of_fold(setting: Setting, folder: RunFolder) -> None:
    """Train what is not there yet of the runs that leave a part out."""
    few = sets_with_few_people(setting)
    for number in range(setting.config.calibration.parts if few else 0):
        own, below = _run_without(setting, folder, number)
        below.scratch.mkdir(parents=True, exist_ok=True)
        encoders, teacher = shared_stages(own, below)
        for available in few:
            student_stages(own, below, encoders, teacher, available, ROWS["PKDOT"], f"student-{label(available)}")


def out_of_fold_scores(setting: Setting, folder: RunFolder, available: tuple[str, ...]) -> OutOfFold | None:
    """Scores of the training people by students that did not see them; None where the set needs none.

    Each student has the temperature that the selection people give it. Raises ConfigError where one was not trained.
    """
    if available not in sets_with_few_people(setting):
        return None
    part = dealt_people(setting, setting.config.calibration.parts)
    scores, person = [], []
    for number in range(setting.config.calibration.parts):
        own, below = _run_without(setting, folder, number)
        student = load_student(own, below, available, f"student-{label(available)}")
        fit = fitted_temperature(own, student, available)
        held_out = setting.train.pick(part[setting.train.person] == number).with_all(available)
        said = said_of(own, student, held_out, fit.temperature if fit else 1.0)
        scores.append(output_scores(own, said))
        person.append(said.person)
    return OutOfFold(
        {name: np.concatenate([one[name] for one in scores]) for name in scores[0]}, np.concatenate(person)
    )


def _run_without(setting: Setting, folder: RunFolder, number: int) -> tuple[Setting, RunFolder]:
    below = RunFolder(folder.path / "out-of-fold" / f"without-part-{number}")
    return replace(without_part(setting, number), scratch=below.scratch), below
