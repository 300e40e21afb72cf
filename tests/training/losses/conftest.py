"""Clouds as embeddings make them, and a reference solution by POT."""

from collections.abc import Callable

import numpy as np
import ot
import pytest
from numpy.typing import NDArray

Cloud = NDArray[np.float64]
Divergence = Callable[[Cloud, Cloud, float], float]


def entropic_ot(x: Cloud, y: Cloud, blur: float) -> float:
    """min <P, C> + blur² KL(P | a⊗b), by POT's stabilised Sinkhorn, within about 1e-5 of the largest cost."""
    cost, epsilon = 0.5 * ot.dist(x, y), blur**2
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    plan = ot.bregman.sinkhorn_stabilized(a, b, cost, epsilon, numItermax=20_000, stopThr=1e-8, warn=False)
    positive = plan > 0
    product = np.outer(a, b)
    kl = float((plan[positive] * np.log(plan[positive] / product[positive])).sum() - plan.sum() + 1)
    return float((plan * cost).sum()) + epsilon * kl


@pytest.fixture
def reference() -> Divergence:
    """The debiased divergence as POT computes it."""

    def divergence(x: Cloud, y: Cloud, blur: float) -> float:
        return entropic_ot(x, y, blur) - 0.5 * entropic_ot(x, x, blur) - 0.5 * entropic_ot(y, y, blur)

    return divergence


@pytest.fixture
def embeddings() -> Callable[..., tuple[Cloud, Cloud]]:
    """Student and teacher embeddings (B, D): the teacher has collapsed, or almost; the student is freer."""

    def make(batch: int, *, collapse: float = 0.1, seed: int = 0, dim: int = 16) -> tuple[Cloud, Cloud]:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(5, dim))
        classes = rng.integers(0, 5, batch)
        teacher = centres[classes] + collapse * rng.normal(size=(batch, dim))
        student = 0.5 * centres[classes] + rng.normal(size=(batch, dim))
        return student, teacher

    return make
