"""What the divergence promises of value and gradient, held against another solver, in numpy, that is run to the end."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from training.losses.ot import profiles, similarity
from training.losses.sinkhorn import TOLERANCE, sinkhorn_divergence

Cloud = NDArray[np.float64]
Embeddings = Callable[..., tuple[Cloud, Cloud]]
BLUR = 0.1
ENDED = 1e-13
"""The residual that rounding leaves; the solver stops at some 1e-12 in float64."""


class Exact(NamedTuple):
    """The divergence S, and its gradients in x and y."""

    value: float
    of_x: Cloud
    of_y: Cloud


def costs(x: Cloud, y: Cloud) -> Cloud:
    found: Cloud = 0.5 * np.square(x[:, None] - y[None]).sum(2)
    return found


def between(x: Cloud, y: Cloud) -> tuple[float, Cloud]:
    """The value and the plan of OT(x, y): epsilon falls in the log domain, then Newton's steps for both potentials.

    At clusters that hardly exchange mass sweeps alone would take a hundred thousand. The equations are singular along
    f + c, g - c, which changes nothing: least squares leave it out.
    """
    cost, n, m = costs(x, y), len(x), len(y)
    f, g, epsilon = np.zeros(n), np.zeros(m), float(cost.max())
    while epsilon > BLUR**2:
        epsilon = max(epsilon / 2, BLUR**2)
        for _ in range(50):
            f = -epsilon * (logsumexp((g - cost) / epsilon, axis=1) - np.log(m))
            g = -epsilon * (logsumexp((f[:, None] - cost) / epsilon, axis=0) - np.log(n))
    for _ in range(10):
        plan = np.exp((f[:, None] + g - cost) / epsilon) / (n * m)
        rows, columns = plan.sum(1), plan.sum(0)
        jacobian = np.block([[np.diag(rows), plan], [plan.T, np.diag(columns)]])
        missing = np.concatenate([1 / n - rows, 1 / m - columns])
        step = epsilon * np.linalg.lstsq(jacobian, missing, rcond=1e-14)[0]
        f, g = f + step[:n], g + step[n:]
    assert np.abs(missing).sum() <= ENDED
    return float(f.mean() + g.mean()), plan


def within(x: Cloud) -> tuple[float, Cloud]:
    """The value and the plan of OT(x, x), by sweeps of half the way."""
    n = len(x)
    kernel, u = np.exp(-costs(x, x) / BLUR**2), np.ones(n)
    for _ in range(300):
        u = np.sqrt(u * n / (kernel @ u))
    plan = u[:, None] * kernel * u / n**2
    assert np.abs(plan.sum(1) - 1 / n).sum() <= ENDED
    return float(2 * BLUR**2 * np.log(u).mean()), plan


def exactly(x: Cloud, y: Cloud) -> Exact:
    """At the optimum only the costs depend on the points: dOT(x, y)/dx_i = sum_j P_ij (x_i - y_j)."""
    (across, plan), (own_x, plan_x), (own_y, plan_y) = between(x, y), within(x), within(y)
    return Exact(across - own_x / 2 - own_y / 2, plan_x @ x - plan @ y, plan_y @ y - plan.T @ x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "k"), [(64, 15), (128, 30)])
@pytest.mark.parametrize("learned", [0.0, 0.999])
def test_value_and_gradient_err_by_no_more_than_is_promised(
    embeddings: Embeddings, dtype: torch.dtype, batch: int, k: int, learned: float
) -> None:
    """|S - exact| <= tol max(S, mean cost / 100), |g - exact| <= 100 tol max(|g|, RMS distance / (100 sqrt(B))).

    Where the student has `learned` nearly all, S and g are below what stands beside them.
    """
    student, teacher = (torch.from_numpy(z) for z in embeddings(batch, collapse=0.4))
    s_student, s_teacher = similarity(torch.lerp(student, teacher, learned)), similarity(teacher)
    rows = profiles(s_student, s_teacher, k=k, anchors="farthest", normalise=False)
    x, y = (row.to(dtype).clone().requires_grad_(True) for row in rows)

    value = sinkhorn_divergence(x, y, blur=BLUR)
    value.backward()

    points = x.detach().double().numpy(), y.detach().double().numpy()
    exact, cost, tol = exactly(*points), costs(*points).mean(), TOLERANCE[dtype]
    assert (exact.value < 1e-2 * cost) == (learned > 0)
    assert abs(value.item() - exact.value) <= tol * max(exact.value, 1e-2 * cost)
    for cloud, gradient in ((x, exact.of_x), (y, exact.of_y)):
        assert cloud.grad is not None
        limit = 100 * tol * max(np.linalg.norm(gradient), 1e-2 * np.sqrt(2 * cost / batch))
        assert np.linalg.norm(cloud.grad.double().numpy() - gradient) <= limit
    assert (TOLERANCE[torch.float32], TOLERANCE[torch.float64]) == (1e-6, 1e-9)
