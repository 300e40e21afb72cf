"""Epochs: it knows no task and no loss by name, only a step that gives a loss and a score to be made small.

A run that was killed goes on from its last whole epoch, with the same random numbers as if it had never stopped.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.checkpoint import load_weights, save_weights
from training.config import StageConfig
from training.data import Batch, WindowSet, deal_batches

Step = Callable[[Batch, torch.Generator], Tensor]
Score = Callable[[], float]


class TrainingError(RuntimeError):
    """The loss left the finite numbers."""


@dataclass
class FitReport:
    """What happened: the mean training loss and the selection score of each epoch, lower is better in both."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = -1


def fit(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    step: Step,
    score: Score,
    data: WindowSet,
    config: StageConfig,
    *,
    seed: int,
    label: str,
    state_file: Path | None = None,
) -> FitReport:
    """Train `model` in place and leave it with the weights of the epoch that the selection people liked best.

    `state_file` is written after every epoch and read at the start if it is there; it is removed at the end, when the
    caller holds the result. Raises TrainingError at the first loss that is not finite.
    """
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    dealer, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    report = FitReport()
    best = copy.deepcopy(model.state_dict())
    if state_file is not None and state_file.exists():
        best = _restore(load_weights(state_file, weights_only=False), model, optimiser, dealer, noise, report)
    for epoch in tqdm(range(len(report.losses), config.epochs), desc=label, unit="epoch", leave=False):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * warm_and_cool(epoch, config.epochs)
        report.losses.append(_epoch(model, optimiser, step, data, config.batch, dealer, noise, label))
        model.eval()
        report.scores.append(score())
        if report.best_epoch < 0 or report.scores[-1] < report.scores[report.best_epoch]:
            report.best_epoch, best = epoch, copy.deepcopy(model.state_dict())
        if state_file is not None:
            _save(state_file, model, optimiser, dealer, noise, report, best)
    model.load_state_dict(best)
    model.eval()
    if state_file is not None:
        state_file.unlink(missing_ok=True)
    return report


def warm_and_cool(epoch: int, epochs: int) -> float:
    """The share of the learning rate in `epoch`: half in the first, then a cosine down to a twentieth."""
    if epoch == 0:
        return 0.5
    return 0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * epoch / epochs)))


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: Step,
    data: WindowSet,
    batch: int,
    dealer: np.random.Generator,
    noise: torch.Generator,
    label: str,
) -> float:
    model.train()
    losses = []
    for index in deal_batches(data.person, batch, dealer):
        loss = step(data.batch(index), noise)
        if not bool(loss.isfinite()):
            raise TrainingError(f"{label}: the loss became {loss.item()}; lower the learning rate or look at the data")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
        optimiser.step()
        losses.append(loss.item())
    if not losses:
        raise TrainingError(f"{label}: nothing to train on; no window has every modality and a label")
    return float(np.mean(losses))


def _save(
    file: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    dealer: np.random.Generator,
    noise: torch.Generator,
    report: FitReport,
    best: dict[str, Any],
) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "dealer": dealer.bit_generator.state,
        "noise": noise.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "report": vars(report),
        "best": best,
    }
    save_weights(file, state)


def _restore(
    state: dict[str, Any],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    dealer: np.random.Generator,
    noise: torch.Generator,
    report: FitReport,
) -> dict[str, Any]:
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    dealer.bit_generator.state = state["dealer"]
    noise.set_state(state["noise"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():  # else the run goes on with other devices than it began with
        torch.cuda.set_rng_state_all(state["cuda"])
    vars(report).update(state["report"])
    return dict(state["best"])
