"""Training on the task alone: what the unimodal encoders and every teacher have in common."""

import torch
from torch import Tensor, nn

from training.config import StageConfig
from training.data import Batch, WindowSet
from training.loop import FitReport, fit
from training.losses.task import task_loss
from training.stages.setting import Setting, selection_loss


def fit_to_task(
    setting: Setting,
    net: nn.Module,
    train: WindowSet,
    select: WindowSet,
    config: StageConfig,
    *,
    label: str,
    state_name: str,
) -> FitReport:
    """Train `net` in place on `train`; the people of `select` choose the epoch."""

    def step(batch: Batch, noise: torch.Generator) -> Tensor:
        batch = setting.augmented(batch, noise)
        return task_loss(net(batch.tensors).output, batch.targets)

    return fit(
        net,
        net.parameters(),
        step,
        lambda: selection_loss(net, select, setting.device),
        train,
        config,
        seed=setting.config.seed,
        label=label,
        state_file=setting.scratch / f"{state_name}.state",
    )
