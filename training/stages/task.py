"""Training on the task alone: what the unimodal encoders and every teacher have in common."""

import torch
from torch import Tensor, nn

from training.data.window_set import Batch, WindowSet
from training.loop.loop import Bench, FitReport, fit
from training.stage_config import StageConfig
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
    """Train `net` in place on the windows of `train` that have a target; the people of `select` choose the epoch."""
    chosen = select.labelled()

    def step(batch: Batch, noise: torch.Generator, _: float) -> Tensor:
        batch = setting.augmented(batch, noise)
        return setting.task_loss(setting.forward(net, batch).output, batch.targets)

    return fit(
        net,
        net.parameters(),
        step,
        lambda: selection_loss(setting, net, chosen),
        train.labelled(),
        config,
        Bench(
            seed=setting.config.seed,
            label=label,
            state_file=setting.scratch / f"{state_name}.state",
            track=setting.track,
        ),
    )
