"""Stage 0: each modality's encoder alone, on the task.

The prevalent encoders are the weights with which the teacher and every student start, so no student's start has seen
a privileged signal.
"""

from typing import Any

from torch import nn

from models.nets.encoders import Standardising
from training.loop import FitReport
from training.stages.setting import Setting
from training.stages.task import fit_to_task


def train_encoder(setting: Setting, modality: str) -> tuple[dict[str, Any], FitReport]:
    """The weights of one modality's encoder, and what happened."""
    net = setting.new_teacher((modality,))
    train, select = setting.train.with_all((modality,)), setting.select.with_all((modality,))
    encoder = net.encoders[modality]
    standardise(setting, modality, encoder)
    report = fit_to_task(
        setting,
        net,
        train,
        select,
        setting.config.encoders,
        label=f"encoder: {modality}",
        state_name=f"encoder-{modality}",
    )
    return encoder.state_dict(), report


def standardise(setting: Setting, modality: str, encoder: nn.Module) -> None:
    """Tell an encoder that holds statistics of its modality those of the training people's windows."""
    if isinstance(encoder, Standardising):
        encoder.standardise(setting.train.with_all((modality,)).tensor(modality))
