"""Epochs: it knows no task and no loss by name, only a step that gives a loss and a score to be made small.

A run that was killed goes on from its last saved step, with the same random numbers as if it had never stopped. Under
`torchrun` each rank computes its part of every batch, and all take the same step.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.data.window_set import Batch, WindowSet, deal_batches
from training.errors import TrainingError
from training.loop.checkpoint import load_weights, save_weights
from training.loop.distributed import average_gradients, first_says, is_first_rank, local_part, of_all_ranks, rank
from training.loop.tracking import Track, track_nothing
from training.stage_config import StageConfig

Step = Callable[[Batch, torch.Generator, float], Tensor]
"""(batch, noise, share of the training that is done) to the loss."""
Score = Callable[[], float]
Deal = Callable[[WindowSet, int, np.random.Generator], Iterator[Tensor]]
"""(data, size, generator) to the indices of an epoch's batches."""

SAVE_EVERY_S = 60.0
"""How much work a kill may cost."""


class Bench(NamedTuple):
    """Where a stage works."""

    seed: int
    label: str
    state_file: Path | None = None
    """Written while the stage runs and read at the start if it is there; removed at the end, when the caller holds
    the result."""
    track: Track = track_nothing
    save_every_s: float = SAVE_EVERY_S

    @property
    def curve(self) -> str:
        """The name of its curves: rows, ratios and teachers that left people out may share a label, and no file."""
        return self.label if self.state_file is None else self.state_file.stem


@dataclass
class FitReport:
    """What happened: the mean training loss and the selection score of each epoch, lower is better in both."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = -1


class _Progress:
    """All that a resumed stage needs."""

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter], config: StageConfig, seed: int) -> None:
        self.model = model
        self.parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        # all ranks deal the same batches; each varies and drops out of its own part as it likes
        self.dealer, self.noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed + rank())
        torch.manual_seed(seed + rank())
        self.report = FitReport()
        self.best = copy.deepcopy(model.state_dict())
        self.epoch_began: Mapping[str, Any] = self.dealer.bit_generator.state
        """The dealer's state at the start of the epoch: from it the same batches are dealt again."""
        self.epoch_losses: list[float] = []
        """Of the steps done in this epoch."""
        self.saved_s = time.monotonic()

    def save_if_due(self, bench: Bench) -> None:
        """Keep everything, where a kill would cost more than the bench allows.

        The first rank's clock decides for all: each rank has random numbers of its own, and all must be of one step.
        """
        if bench.state_file is None or not first_says(time.monotonic() - self.saved_s >= bench.save_every_s):
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch_began": self.epoch_began,
            "epoch_losses": self.epoch_losses,
            "random": of_all_ranks(self._random()),
            "report": vars(self.report),
            "best": self.best,
        }
        if is_first_rank():
            save_weights(bench.state_file, state)
        self.saved_s = time.monotonic()

    def _random(self) -> dict[str, Any]:
        """The states of all generators that this rank draws from."""
        return {
            "noise": self.noise.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def _go_on_with(self, random: Mapping[str, Any]) -> None:
        self.noise.set_state(random["noise"])
        torch.set_rng_state(random["torch"])
        if len(random["cuda"]) == torch.cuda.device_count():  # else it goes on with other devices than it began with
            torch.cuda.set_rng_state_all(random["cuda"])

    def restore(self, file: Path) -> None:
        state = load_weights(file, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch_began, self.epoch_losses = state["epoch_began"], state["epoch_losses"]
        self.dealer.bit_generator.state = self.epoch_began
        if len(state["random"]) == len(of_all_ranks(None)):  # else it goes on with other ranks than it began with
            self._go_on_with(state["random"][rank()])
        vars(self.report).update(state["report"])
        self.best = dict(state["best"])


def fit(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    step: Step,
    score: Score,
    data: WindowSet,
    config: StageConfig,
    bench: Bench,
    *,
    before_epoch: Callable[[], None] = lambda: None,
    deal: Deal = deal_batches,
) -> FitReport:
    """Train `model` in place and leave it with the weights of the epoch that the selection people liked best.

    Raises TrainingError at the first loss that is not finite.
    """
    at = _Progress(model, parameters, config, bench.seed)
    if bench.state_file is not None and bench.state_file.exists():
        at.restore(bench.state_file)
    for epoch in tqdm(range(len(at.report.losses), config.epochs), desc=bench.label, unit="epoch", leave=False):
        for group in at.optimiser.param_groups:
            group["lr"] = config.learning_rate * warm_and_cool(epoch, config.epochs)
        if not at.epoch_losses:
            before_epoch()
        at.report.losses.append(_epoch(at, step, data, config, bench, epoch, deal))
        model.eval()
        at.report.scores.append(of_all_ranks(score())[0])  # whatever their rounding, all ranks keep the same epoch
        bench.track(f"{bench.curve}/loss", at.report.losses[-1], epoch)
        bench.track(f"{bench.curve}/selection", at.report.scores[-1], epoch)
        if at.report.best_epoch < 0 or at.report.scores[-1] < at.report.scores[at.report.best_epoch]:
            at.report.best_epoch, at.best = epoch, copy.deepcopy(model.state_dict())
        at.epoch_began, at.epoch_losses = at.dealer.bit_generator.state, []
        at.save_if_due(bench)
    model.load_state_dict(at.best)
    model.eval()
    if bench.state_file is not None and is_first_rank():
        bench.state_file.unlink(missing_ok=True)
    return at.report


def warm_and_cool(epoch: int, epochs: int) -> float:
    """The share of the learning rate in `epoch`: half in the first, then a cosine down to a twentieth."""
    if epoch == 0:
        return 0.5
    return 0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * epoch / epochs)))


def train_mode(model: nn.Module) -> None:
    """Training mode for what is trained; a part whose weights are all frozen stays in evaluation mode.

    Dropout would vary what is not going to learn to bear it, and batch normalisation would move with the batches.
    """
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def _epoch(
    at: _Progress, step: Step, data: WindowSet, config: StageConfig, bench: Bench, epoch: int, deal: Deal
) -> float:
    train_mode(at.model)
    batches = list(deal(data, config.batch, at.dealer))
    if not batches:
        raise TrainingError(f"{bench.label}: nothing to train on; no window has every modality and a label")
    for number in range(len(at.epoch_losses), len(batches)):
        done = (epoch + number / len(batches)) / config.epochs
        at.epoch_losses.append(_take_step(at, step, data, batches[number], done, bench.label))
        at.save_if_due(bench)
    return float(np.mean(at.epoch_losses))


def _take_step(at: _Progress, step: Step, data: WindowSet, index: Tensor, done: float, label: str) -> float:
    loss = step(data.batch(index, local_part(len(index))), at.noise, done)
    if not bool(loss.isfinite()):
        raise TrainingError(f"{label}: the loss became {loss.item()}; lower the learning rate or look at the data")
    at.optimiser.zero_grad(set_to_none=True)
    if loss.requires_grad:  # a batch without any label gives the bounds nothing to learn from
        loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(at.parameters)
    nn.utils.clip_grad_norm_(at.parameters, 1.0)
    at.optimiser.step()
    return loss.item()
