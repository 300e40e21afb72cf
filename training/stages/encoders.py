"""Stage 0: each modality's encoder alone, on the task.

The prevalent encoders are the weights with which the teacher and every student start, so no student's start has seen
a privileged signal.
"""

from typing import Any

import torch
from torch import Tensor

from models.nets.physio import SignalEncoder
from training.data import Batch
from training.loop import FitReport, fit
from training.losses.task import task_loss
from training.stages.setting import Setting, selection_loss


def train_encoder(setting: Setting, modality: str) -> tuple[dict[str, Any], FitReport]:
    """The weights of one modality's encoder, and what happened."""
    net = setting.new_teacher((modality,))
    train, select = setting.train.with_all((modality,)), setting.select.with_all((modality,))
    encoder = net.encoders[modality]
    if isinstance(encoder, SignalEncoder):
        encoder.standardise(train.tensors[modality])

    def step(batch: Batch, noise: torch.Generator) -> Tensor:
        batch = setting.augmented(batch, noise)
        return task_loss(net(batch.tensors).output, batch.targets)

    report = fit(
        net,
        net.parameters(),
        step,
        lambda: selection_loss(net, select, setting.device),
        train,
        setting.config.encoders,
        seed=setting.config.seed,
        label=f"encoder: {modality}",
        state_file=setting.scratch / f"encoder-{modality}.state",
    )
    return encoder.state_dict(), report
