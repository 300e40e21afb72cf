"""The Sinkhorn divergence: against POT, against closed forms, and against a bound that needs no other solver."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.losses.sinkhorn import (
    NotConverged,
    half_squared_distances,
    sinkhorn_divergence,
    solve_between,
    solve_within,
)

Cloud = NDArray[np.float64]
Divergence = Callable[[Cloud, Cloud, float], float]


def profiles(n: int, d: int, seed: int, spread: float = 0.3) -> Tensor:
    """A cloud like rows of a similarity matrix: in [0, 2], in a few clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 2, (4, d))
    return torch.from_numpy((centres[rng.integers(0, 4, n)] + spread * rng.normal(size=(n, d))).clip(0, 2))


def spread_out(n: int, d: int, seed: int) -> Tensor:
    """A cloud without clusters: plain Sinkhorn iterations, which the reference uses, converge on such."""
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tolerance(x: Tensor, y: Tensor, value: float, relative: float) -> float:
    return relative * max(abs(value), 1e-2 * float(half_squared_distances(x, y).mean()))


@pytest.mark.parametrize("blur", [0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 2), (20, 20, 5), (48, 31, 15)])
def test_the_value_is_that_of_a_converged_solution(n: int, m: int, d: int, blur: float, reference: Divergence) -> None:
    x, y = spread_out(n, d, seed=1), 0.8 * spread_out(m, d, seed=2)

    value = float(sinkhorn_divergence(x, y, blur=blur))

    expected = reference(x.numpy(), y.numpy(), blur)
    assert abs(value - expected) <= tolerance(x, y, expected, 1e-3)


@pytest.mark.parametrize("blur", [0.3, 1.0])
def test_the_gradient_is_that_of_a_converged_solution(blur: float, reference: Divergence) -> None:
    x, y = spread_out(9, 3, seed=1), 0.8 * spread_out(7, 3, seed=2)
    x.requires_grad_(True)
    sinkhorn_divergence(x, y, blur=blur).backward()
    assert x.grad is not None

    step, expected = 1e-4, np.zeros((9, 3))
    for i in range(9):
        for j in range(3):
            moved = x.detach().numpy().copy()
            moved[i, j] += step
            above = reference(moved, y.numpy(), blur)
            moved[i, j] -= 2 * step
            expected[i, j] = (above - reference(moved, y.numpy(), blur)) / (2 * step)

    assert np.linalg.norm(x.grad.numpy() - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("blur", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(("n", "d"), [(64, 15), (256, 60), (512, 120), (512, 512)])
def test_primal_and_dual_meet_so_no_other_solver_is_needed_to_trust_it(n: int, d: int, blur: float) -> None:
    """For any potentials the dual value is a lower bound, and for any coupling the primal one an upper bound."""
    x, y = profiles(n, d, seed=3), profiles(n, d, seed=4)
    cost, epsilon = half_squared_distances(x, y), blur**2

    solved = solve_between(cost, epsilon, 1e-9)

    # the dual objective (with its mass term) at the potentials that came back
    f, g = solved.f[:, None], solved.g[None, :]
    mass = torch.exp((f + g - cost) / epsilon).mean()
    lower = float(solved.f.mean() + solved.g.mean() - epsilon * (mass - 1))
    # the plan, its rows and columns scaled down to their weights and the rest spread evenly: a true coupling
    plan = solved.plan
    plan = plan * (1 / n / plan.sum(1, keepdim=True)).clamp(max=1)
    plan = plan * (1 / n / plan.sum(0, keepdim=True)).clamp(max=1)
    rows, columns = (1 / n - plan.sum(1)).clamp(min=0), (1 / n - plan.sum(0)).clamp(min=0)
    plan = plan + torch.outer(rows, columns) / rows.sum().clamp(min=1e-300)
    upper = float((plan * cost).sum() + epsilon * torch.xlogy(plan, plan * n * n).sum())
    assert -1e-12 <= upper - lower <= 1e-5 * float(cost.mean())


@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 20),
    d=st.integers(1, 8),
    size=st.floats(0, 3),
    blur=st.sampled_from([0.05, 0.1, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_moving_a_cloud_by_t_costs_half_t_squared(seed: int, n: int, d: int, size: float, blur: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    cloud = torch.rand(n, d, generator=generator, dtype=torch.float64)
    t = size * torch.randn(d, generator=generator, dtype=torch.float64)

    value = float(sinkhorn_divergence(cloud, cloud + t, blur=blur))

    assert value == pytest.approx(0.5 * float(t.square().sum()), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("blur", [0.01, 0.1, 1.0])
def test_identical_clouds_are_at_no_distance(dtype: torch.dtype, blur: float) -> None:
    x = profiles(40, 10, seed=5).to(dtype).requires_grad_(True)

    value = sinkhorn_divergence(x, x.detach().clone(), blur=blur)
    value.backward()

    assert abs(value.item()) <= 1e-6
    assert x.grad is not None
    assert x.grad.abs().max() <= 1e-5


def test_it_is_symmetric_and_never_negative() -> None:
    x, y = profiles(30, 6, seed=6), profiles(21, 6, seed=7)

    there, back = sinkhorn_divergence(x, y), sinkhorn_divergence(y, x)

    assert float(there) == pytest.approx(float(back), rel=1e-9)
    assert float(there) > 0


@pytest.mark.parametrize("blur", [0.05, 0.1, 0.3])
def test_autograd_agrees_with_finite_differences_in_both_arguments(blur: float) -> None:
    x, y = profiles(12, 4, seed=8).requires_grad_(True), profiles(9, 4, seed=9).requires_grad_(True)

    assert torch.autograd.gradcheck(lambda a, b: sinkhorn_divergence(a, b, blur=blur), (x, y), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("blur", [0.01, 0.05, 1.0])
@pytest.mark.parametrize(
    "clouds",
    [
        pytest.param((torch.zeros(2, 3), torch.ones(2, 3)), id="all points of a cloud are one"),
        pytest.param((torch.zeros(4, 2), torch.zeros(4, 2)), id="all points of both clouds are one"),
        pytest.param((profiles(64, 15, 1, 1e-3).float(), profiles(64, 15, 2, 1e-3).float()), id="near-duplicates"),
        pytest.param((profiles(16, 4, 1).bfloat16(), profiles(16, 4, 2).bfloat16()), id="bfloat16"),
        pytest.param((torch.tensor([[0.0]]), torch.tensor([[1.0]])), id="single points"),
    ],
)
def test_odd_clouds_give_finite_values_and_gradients(clouds: tuple[Tensor, Tensor], blur: float) -> None:
    x, y = clouds[0].clone().requires_grad_(True), clouds[1]

    value = sinkhorn_divergence(x, y, blur=blur)
    value.backward()

    assert value.dtype == torch.float32
    assert value.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_single_precision_keeps_six_digits() -> None:
    x, y = profiles(128, 30, seed=10), profiles(128, 30, seed=11)
    exact = float(sinkhorn_divergence(x, y))

    value = float(sinkhorn_divergence(x.float(), y.float()))

    assert abs(value - exact) <= tolerance(x, y, exact, 2e-6)


def test_not_converging_is_an_error_with_the_residual_and_advice() -> None:
    cost = half_squared_distances(profiles(40, 8, seed=12), profiles(40, 8, seed=13))

    with pytest.raises(NotConverged, match=r"marginal residual of .* raise blur"):
        solve_between(cost, 0.05**2, 1e-12, max_steps=0)
    with pytest.raises(NotConverged, match="stopped after 1 steps"):
        solve_within(half_squared_distances(*[profiles(40, 8, seed=12)] * 2), 0.05**2, 1e-12, max_steps=1)


@pytest.mark.parametrize(
    ("x", "y", "blur", "complaint"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 3), 0.1, "clouds of one dimension|expected clouds"),
        (torch.zeros(0, 2), torch.zeros(3, 2), 0.1, "neither empty"),
        (torch.full((2, 2), float("nan")), torch.zeros(2, 2), 0.1, "x holds NaN"),
        (torch.zeros(2, 2), torch.full((2, 2), float("inf")), 0.1, "y holds NaN or infinity"),
        (torch.zeros(2, 2), torch.zeros(2, 2), 0.0, "blur must be a finite number above 0"),
        (torch.zeros(2, 2), torch.full((2, 2), 1e300, dtype=torch.float64), 0.1, "overflow"),
    ],
)
def test_bad_input_is_said(x: Tensor, y: Tensor, blur: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sinkhorn_divergence(x, y, blur=blur)
