"""Stage 0: each modality's encoder alone, on the task.

The prevalent encoders are the weights with which the teacher and every student start, so no student's start has seen
a privileged signal.
"""

from dataclasses import asdict
from typing import Any

from torch import nn

from models.nets.encoders import Standardising
from training.loop.loop import FitReport
from training.run_folder import RunFolder
from training.stages.setting import Setting
from training.stages.task import fit_to_task


def kept_encoder(setting: Setting, folder: RunFolder, modality: str, name: str) -> dict[str, Any]:
    """The weights of one modality's encoder from checkpoint `name`; trained and kept first where it is not there."""
    weights: dict[str, Any] | None = folder.load(name)
    if weights is None:
        weights, report = train_encoder(setting, modality, name)
        folder.finish(name, weights, asdict(report))
    return weights


def train_encoder(setting: Setting, modality: str, name: str) -> tuple[dict[str, Any], FitReport]:
    """The weights of one modality's encoder, and what happened; under its `name` a stopped training goes on."""
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
        state_name=name,
    )
    return encoder.state_dict(), report


def standardise(setting: Setting, modality: str, encoder: nn.Module) -> None:
    """Tell an encoder that holds statistics of its modality those of the training people's windows."""
    if isinstance(encoder, Standardising):
        encoder.standardise(setting.train.with_all((modality,)).tensor(modality))
