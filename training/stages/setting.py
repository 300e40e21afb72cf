"""What every stage of a run works on: the configuration, the people's parts, and where to compute."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.spec import FACE
from training.augment import augment_frames
from training.config import RunConfig
from training.corpora.clip import Corpus
from training.corpora.splits import Split
from training.data import Batch, WindowSet, deal_batches
from training.losses.task import task_loss
from training.windows import FrameLabels

EVALUATION_BATCH = 64
MEASURED_BATCHES = 4


@dataclass(frozen=True)
class Setting:
    """One run's inputs. The four parts hold different people; `test` is read once, at the end."""

    config: RunConfig
    corpus: Corpus
    split: Split
    train: WindowSet
    select: WindowSet
    calibrate: WindowSet
    test: WindowSet
    frames: tuple[FrameLabels | None, ...]
    device: torch.device
    scratch: Path
    """Where interrupted stages keep their state."""

    def new_teacher(self, modalities: tuple[str, ...]) -> Teacher:
        """Weights from the run's seed."""
        torch.manual_seed(self.config.seed)
        c = self.config
        net = Teacher(modalities, c.inputs, c.network, task=c.task, levels=len(self.corpus.levels))
        return net.to(self.device)

    def new_student(self, available: tuple[str, ...], *, hallucinates: bool = True) -> Student:
        """Weights from the run's seed: every method starts from the same ones."""
        torch.manual_seed(self.config.seed)
        c, missing = self.config, self.config.missing(available) if hallucinates else ()
        net = Student(available, missing, c.inputs, c.network, task=c.task, levels=len(self.corpus.levels))
        return net.to(self.device)

    def some_batches(self) -> list[Batch]:
        """The first batches of training people, not augmented: for what is measured and not trained."""
        train = self.train.with_all(self.config.modalities)
        dealt = deal_batches(train.person, self.config.student.batch, np.random.default_rng(self.config.seed))
        return [train.batch(index).to(self.device) for index, _ in zip(dealt, range(MEASURED_BATCHES), strict=False)]

    def augmented(self, batch: Batch, noise: torch.Generator) -> Batch:
        """The batch on the run's device, its faces varied."""
        batch = batch.to(self.device)
        if FACE in batch.tensors:
            batch.tensors[FACE] = augment_frames(batch.tensors[FACE], noise)
        return batch


def run_over(net: nn.Module, windows: WindowSet, device: torch.device) -> Forward:
    """`net` over all windows in evaluation mode: features, z and outputs joined along N, on the CPU."""
    net.eval()
    parts: list[Forward] = []
    with torch.no_grad():
        for batch in windows.batches(EVALUATION_BATCH):
            out: Forward = net(batch.to(device).tensors)
            parts.append(Forward({k: v.cpu() for k, v in out.features.items()}, out.z.cpu(), out.output.cpu()))
    features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
    return Forward(features, torch.cat([part.z for part in parts]), torch.cat([part.output for part in parts]))


def selection_loss(net: nn.Module, windows: WindowSet, device: torch.device) -> float:
    """The task loss over all selection windows at once; lower is better."""
    return float(task_loss(run_over(net, windows, device).output, windows.targets))


def mean_squared(prediction: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """The T-Net's loss: squared error in units of the target's spread (D,), a scalar."""
    return ((prediction - target) / spread).square().mean()
