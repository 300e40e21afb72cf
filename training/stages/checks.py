"""What would stop a run after hours is found before its first minute, and before anything is written."""

import torch

from models.nets.encoders import build_encoder
from training.config import RunConfig
from training.corpora.splits import SplitError
from training.stages.out_of_fold import sets_with_few_people, without_part
from training.stages.setting import Setting


def check_encoders(config: RunConfig) -> None:
    """Build the encoders that come with weights, for their errors: WeightsFileError, HuggingFaceError."""
    for modality in config.modalities:
        spec = config.network.encoder(modality)
        if spec.weights is not None or spec.model is not None:
            build_encoder(modality, config.inputs, spec, dim=config.network.dim, steps=config.network.steps)


def check_parts(setting: Setting) -> None:
    """Raise SplitError where a part cannot do its work: better now than after hours of training."""
    config = setting.config
    for name, windows in (("train", setting.pairs.labelled()), ("select", setting.selection)):
        needed = 2 if name == "train" else 1
        if (count := len(windows)) < needed:
            raise SplitError(
                f"the {name} people have {count} labelled windows with {', '.join(config.modalities)}; "
                f"at least {needed} are needed"
            )
        if not setting.corpus.levels and bool((windows.targets == windows.targets[0]).all()):
            raise SplitError(
                f"all {count} labelled windows of the {name} people have the same values, with which nothing can agree "
                "more or less; labels that differ are needed"
            )
    if levels := setting.corpus.levels:
        classes = set(setting.pairs.labelled().targets.tolist())
        if len(classes) == 1:
            raise SplitError(
                f"every labelled window of the train people is {levels[classes.pop()]!r}, of the classes "
                f"{', '.join(levels)}; labels of at least two are needed"
            )
    if (count := len(setting.pairs)) < config.student.k and not config.student.bank:
        raise SplitError(
            f"student.k is {config.student.k}, but the train people have only {count} windows with "
            f"{', '.join(config.modalities)} to choose anchors from; set it to {count} or less"
        )
    if not len(setting.test.labelled()):
        raise SplitError("the test people have no labelled window")


def check_parts_left_out(setting: Setting) -> None:
    """Raise SplitError where out-of-fold scores are needed and leaving a part out leaves too little to train on."""
    if not sets_with_few_people(setting):
        return
    parts, people = setting.config.calibration.parts, len(torch.unique(setting.train.person))
    if people < parts:
        raise SplitError(f"calibration.parts is {parts}, but there are only {people} training people to leave out")
    for number in range(parts):
        try:
            check_parts(without_part(setting, number))
        except SplitError as error:
            raise SplitError(f"calibration.parts: with one part left out, {error}") from None
