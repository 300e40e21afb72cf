"""Stage 2: the T-Net learns the teacher's features of what is missing from those of what is there.

It needs no label: every pair of recordings teaches it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.nets.student import Student
from models.nets.teacher import Forward, Teacher
from training.data.window_set import Batch, WindowSet
from training.loop.loop import Bench, FitReport, fit
from training.losses.hallucination import hallucination_loss, squared_error
from training.stages.setting import Setting, gathered, run_over

TARGET = "target:"
"""Prefix of the teacher's features among a feature batch's tensors."""


def train_tnets(
    setting: Setting, available: tuple[str, ...], encoders: Mapping[str, Mapping[str, Any]], teacher: Teacher
) -> tuple[Student, FitReport]:
    """A student with stage 0's encoders and trained T-Nets; its fusion and head are new."""
    config = setting.config
    student = setting.new_student(available)
    for name in available:
        student.encoders[name].load_state_dict(encoders[name])
    train = _features(setting, setting.pairs, student, teacher)
    select = _features(setting, setting.select.with_all(config.modalities), student, teacher)
    for name in student.hallucinated:
        student.tnet(name).standardise(train.tensor(TARGET + name))

    def loss(batch: Batch) -> Tensor:
        tensors = batch.to(setting.device).tensors
        made = {name: student.tnet(name).predict(tensors) for name in student.hallucinated}
        out = Forward(
            {name: one.features for name, one in made.items()},
            torch.zeros(0),
            torch.zeros(0),
            {name: one.log_variance for name, one in made.items()},
        )
        real = Forward({name: tensors[TARGET + name] for name in student.hallucinated}, torch.zeros(0), torch.zeros(0))
        return hallucination_loss(student, gathered(out), gathered(real), config.tnet)

    def score() -> float:
        with torch.no_grad():
            return float(loss(select.batch(torch.arange(len(select)))))

    report = fit(
        student,
        student.tnets.parameters(),
        lambda batch, *_: loss(batch),
        score,
        train,
        config.tnet,
        Bench(
            seed=config.seed,
            label=f"T-Net: {'+'.join(available)} to {'+'.join(student.hallucinated)}",
            state_file=setting.scratch / f"tnet-{'+'.join(available)}.state",
            track=setting.track,
        ),
    )
    return student, report


def hallucination_scores(
    setting: Setting, student: Student, teacher: Teacher, windows: WindowSet
) -> dict[str, dict[str, float]]:
    """How good each hallucinated modality is on people who were not trained on, as means over persons.

    `r2` is against the training mean, `cosine` between features less that mean; `uncertainty_correlation` is the rank
    correlation, over windows, of the error that the T-Net expected with the one that it made.
    """
    both = windows.with_all(setting.config.modalities)
    made, real = (run_over(net, both, setting.device) for net in (student, teacher))
    found = {}
    for name in student.hallucinated:
        tnet = student.tnet(name)
        centre, spread = tnet.centre.cpu(), tnet.spread.cpu()
        error = (made.features[name] - real.features[name]).square().sum(dim=(1, 2))  # (N,)
        total = (real.features[name] - centre).square().sum(dim=(1, 2))  # (N,)
        cosine = F.cosine_similarity(made.features[name] - centre, real.features[name] - centre, dim=2).mean(1)
        people = [both.person == person for person in torch.unique(both.person)]
        standardised = squared_error(made.features[name], real.features[name], spread)
        found[name] = {
            "r2": float(np.mean([1.0 - float(error[own].sum() / total[own].sum()) for own in people])),
            "cosine": float(np.mean([float(cosine[own].mean()) for own in people])),
            "uncertainty_correlation": _rank_correlation(made.log_variance[name], standardised),
        }
    return found


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two (N,)."""
    ranks = torch.stack([a, b]).argsort(dim=1).argsort(dim=1).double()
    return float(torch.corrcoef(ranks)[0, 1]) if len(a) > 1 else 0.0


def _features(setting: Setting, windows: WindowSet, student: Student, teacher: Teacher) -> WindowSet:
    """The same windows with encoded features (N, L, D) in place of their tensors: frozen encoders run only once."""
    encoded = run_over(student, windows, setting.device).features
    targets = run_over(teacher, windows, setting.device).features
    tensors = {name: encoded[name] for name in student.available} | {
        TARGET + name: targets[name] for name in student.hallucinated
    }
    nobody = windows.with_labels_of(torch.zeros(len(windows), dtype=torch.bool))  # all pairs weigh the same here
    return replace(nobody, store=tensors, rows=torch.arange(len(windows)))
