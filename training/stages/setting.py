"""What every stage of a run works on: the configuration, the people's parts, and where to compute."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.manifest import output_width
from models.nets.heads import Scale, ValuesHead, scale_of
from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from models.spec import FACE
from training.config import RunConfig
from training.corpora.clip import Corpus
from training.corpora.splits import Split
from training.data.augment import augment_frames
from training.data.contents import Contents
from training.data.window_set import Batch, WindowSet, deal_batches
from training.data.windows import FrameLabels
from training.loop.distributed import gather_with_gradient, local_part
from training.loop.tracking import Track, track_nothing
from training.losses.task import task_loss
from training.stages.memory import Kept, Memory, Said, joined, keep

EVALUATION_BATCH = 64
MEASURED_BATCHES = 4


@dataclass(frozen=True)
class Setting:
    """One run's inputs. The four parts hold different people; `test` is read once, at the end.

    Windows of `train` and `select` without a target are pairs of recordings without a label.
    """

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
    track: Track = track_nothing
    """Where curves go."""
    shown: Mapping[str, Tensor] = field(default_factory=dict)
    """Where a frozen encoder has seen the corpus already: the windows (M, ...) that it was shown, by modality."""
    contents: Contents = field(default_factory=dict)
    """What the corpus holds."""
    memory: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)
    """What teachers said; with other windows one begins anew."""

    @property
    def protocol(self) -> list[str]:
        """How results come about, in sentences that go wherever they go."""
        return [f"{self.split.sentence}; fold {self.config.fold} tested.", *self.notes]

    @property
    def notes(self) -> tuple[str, ...]:
        """What every result must say beside the split."""
        where = f"seed {self.config.seed}, fold {self.config.fold}"
        return (*self.corpus.notes, *(untaught_sentence(name, where) for name in self.untaught))

    @property
    def untaught(self) -> tuple[str, ...]:
        """Levels or classes of labelled test windows that no labelled training window with every modality has."""
        taught, tested = self.pairs.labelled().targets, self.test.labelled().targets
        return tuple(
            name for i, name in enumerate(self.corpus.levels) if (tested == i).any() and not (taught == i).any()
        )

    @property
    def pairs(self) -> WindowSet:
        """Training windows that have every modality, with a target or without."""
        return self.train.with_all(self.config.modalities)

    @property
    def selection(self) -> WindowSet:
        """Selection windows that have every modality and a target."""
        return self.select.with_all(self.config.modalities).labelled()

    def new_teacher(self, modalities: tuple[str, ...]) -> Teacher:
        """Weights from the run's seed."""
        torch.manual_seed(self.config.seed)
        c = self.config
        net = Teacher(modalities, c.inputs, c.network, task=c.task, outputs=self.outputs)
        self._standardise(net.head)
        return net.to(self.device)

    def new_student(self, available: tuple[str, ...], *, hallucinates: bool = True) -> Student:
        """Weights from the run's seed: every method starts from the same ones."""
        torch.manual_seed(self.config.seed)
        c, missing = self.config, self.config.missing(available) if hallucinates else ()
        net = Student(available, missing, c.inputs, c.network, task=c.task, outputs=self.outputs)
        self._standardise(net.head)
        return net.to(self.device)

    def _standardise(self, head: nn.Module) -> None:
        if isinstance(head, ValuesHead):
            head.standardise(self.train.labelled().targets)

    @property
    def outputs(self) -> int:
        """The width of the head's output."""
        return output_width(self.config.task, self.corpus.levels, self.corpus.values)

    @cached_property
    def scale(self) -> Scale | None:
        """What a regression's training targets are like; None for tasks whose outputs have no unit."""
        return scale_of(self.train.labelled().targets) if self.config.task == "regression" else None

    def standardised(self, values: Tensor) -> Tensor:
        """A regression's outputs or targets (B, C) in the units in which losses are taken; others as they are."""
        return values if self.scale is None else self.scale.standardised(values)

    def task_loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """The task's loss over the windows that have a target."""
        return task_loss(self.config.task, self.standardised(output), self.standardised(targets))

    def forward(self, net: nn.Module, batch: Batch) -> Forward:
        """`net` on a batch, in the run's precision; what comes out is float32, and of all ranks' windows."""
        with self.autocast():
            out: Forward = net(batch.tensors)
        return gathered(out)

    def autocast(self) -> torch.autocast:
        """The precision in which networks compute while they are trained."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def seen(self, net: nn.Module, batch: Batch) -> Forward:
        """What `net` makes of a batch, without gradients."""
        with torch.no_grad():
            return self.forward(net, batch)

    def heard(self, teacher: nn.Module, batch: Batch) -> Forward:
        """What a teacher, which is trained no more, says of a batch of training people: `seen`, but asked once."""
        return self.all_heard(teacher, batch)[""]

    def all_heard(self, net: nn.Module, batch: Batch) -> Said:
        """`heard` of several teachers that are one net, by their names; a single one has none.

        It is asked once about all training windows, if no step varies them.
        """

        @torch.no_grad()
        def said(of: Batch) -> Said:
            with self.autocast():
                out: Forward | Said = net(of.to(self.device).tensors)
            by_name = {"": out} if isinstance(out, Forward) else out
            return {who: one.each(Tensor.float) for who, one in by_name.items()}

        def learn() -> Kept | None:
            pairs = self.pairs
            return keep(map(said, pairs.batches(EVALUATION_BATCH)), pairs)

        known = None if self.varies else self.memory.recall(net, batch, learn)
        return {who: gathered(out) for who, out in said(batch).items()} if known is None else known

    @property
    def varies(self) -> bool:
        """Whether `augmented` changes anything."""
        return FACE in self.train.store and self.train.store[FACE].dtype == torch.uint8

    def some_batches(self, each: int = 1) -> Iterator[Batch]:
        """The first batches of training people, not augmented: for what is measured and not trained.

        `each` windows of a person come together, as in the row's training.
        """
        pairs = self.pairs
        dealt = deal_batches(pairs, self.config.student.batch, np.random.default_rng(self.config.seed), each=each)
        for index, _ in zip(dealt, range(MEASURED_BATCHES), strict=False):
            yield pairs.batch(index, local_part(len(index))).to(self.device)

    def augmented(self, batch: Batch, noise: torch.Generator) -> Batch:
        """The batch on the run's device, its faces varied."""
        batch = batch.to(self.device)
        if self.varies:
            batch.tensors[FACE] = augment_frames(batch.tensors[FACE], noise)
        return batch


def untaught_sentence(name: str, where: str) -> str:
    """A note on a level or class that is tested in `where`, and of which nobody could learn there."""
    return (
        f"In {where} no labelled training window is {name!r}, but test windows are: it cannot be learned there, and "
        "counts in the scores."
    )


def gathered(out: Forward) -> Forward:
    """What came out, in float32, of all ranks' windows: losses are of the whole batch."""
    return out.each(lambda values: gather_with_gradient(values.float()))


def run_over(net: nn.Module, windows: WindowSet, device: torch.device) -> Forward:
    """`net` over all windows in evaluation mode: features, z and outputs joined along N, on the CPU."""
    net.eval()
    parts: list[Forward] = []
    with torch.no_grad():
        for batch in windows.batches(EVALUATION_BATCH):
            out: Forward = net(batch.to(device).tensors)
            parts.append(out.each(Tensor.cpu))
    return joined(parts)


def selection_loss(setting: Setting, net: nn.Module, windows: WindowSet) -> float:
    """The task loss over all selection windows at once; lower is better."""
    return float(setting.task_loss(run_over(net, windows, setting.device).output, windows.targets))
