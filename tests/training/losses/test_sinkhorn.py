"""The Sinkhorn divergence: against POT, against closed forms, and against a bound that needs no other solver."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.losses.sinkhorn import coupling, half_squared_distances, sinkhorn_divergence

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


@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 20),
    d=st.integers(1, 8),
    size=st.floats(0, 3),
    blur=st.sampled_from([0.05, 0.1, 0.5, 1.0]),
)
@settings(max_examples=60)
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


def groups_of(n: int) -> Tensor:
    """Labels (n,) of three groups, and which points they tell apart, (n, n)."""
    labels = torch.arange(n) % 3
    return labels[:, None] != labels[None, :]


@pytest.mark.parametrize("pair_cost", [0.02, 0.3])
@pytest.mark.parametrize("by_groups", [False, True])
def test_the_fused_cost_is_a_distance_of_labels_beside_that_of_points(by_groups: bool, pair_cost: float) -> None:
    """Half the squared distance of two different unit vectors is 1: so the labels can be coordinates."""
    x, y = profiles(12, 4, seed=1), profiles(12, 4, seed=2)
    labels = torch.arange(12) % 3 if by_groups else torch.arange(12)
    coordinates = pair_cost**0.5 * torch.nn.functional.one_hot(labels).double()

    fused = sinkhorn_divergence(x, y, pair_cost=pair_cost, apart=groups_of(12) if by_groups else None)

    plain = sinkhorn_divergence(torch.cat([x, coordinates], 1), torch.cat([y, coordinates], 1))
    assert float(fused) == pytest.approx(float(plain), rel=1e-8)
    assert float(fused) > float(sinkhorn_divergence(x, y))


@pytest.mark.parametrize("pair_cost", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("apart", [None, groups_of(40)])
def test_identical_clouds_are_at_no_distance_with_a_fused_cost_either(apart: Tensor | None, pair_cost: float) -> None:
    x = profiles(40, 10, seed=5).requires_grad_(True)

    value = sinkhorn_divergence(x, x.detach().clone(), pair_cost=pair_cost, apart=apart)
    value.backward()

    assert abs(value.item()) <= 1e-8
    assert x.grad is not None
    assert x.grad.abs().max() <= 1e-6


@pytest.mark.parametrize("pair_cost", [30.0, 1e6])
def test_a_large_pair_cost_gives_the_paired_mean_of_half_the_squared_distance(pair_cost: float) -> None:
    x, y = profiles(25, 6, seed=3).requires_grad_(True), profiles(25, 6, seed=4)

    value = sinkhorn_divergence(x, y, pair_cost=pair_cost)
    value.backward()

    assert value.item() == pytest.approx(float((x.detach() - y).square().sum(1).mean()) / 2, rel=1e-8)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (x.detach() - y) / 25, rtol=1e-6, atol=1e-9)


def test_a_large_cost_between_groups_leaves_a_divergence_inside_each() -> None:
    x, y = profiles(30, 6, seed=3), profiles(30, 6, seed=4)

    value = sinkhorn_divergence(x, y, pair_cost=100.0, apart=groups_of(30))

    inside = [float(sinkhorn_divergence(x[group::3], y[group::3])) for group in range(3)]
    assert float(value) == pytest.approx(sum(inside) / 3, rel=1e-7)


@pytest.mark.parametrize("apart", [None, groups_of(9)])
def test_autograd_agrees_with_finite_differences_with_a_fused_cost(apart: Tensor | None) -> None:
    x, y = profiles(9, 4, seed=8).requires_grad_(True), profiles(9, 4, seed=9).requires_grad_(True)

    def divergence(a: Tensor, b: Tensor) -> Tensor:
        return sinkhorn_divergence(a, b, pair_cost=0.1, apart=apart)

    assert torch.autograd.gradcheck(divergence, (x, y), atol=1e-5, rtol=1e-3, fast_mode=True)


def test_the_coupling_keeps_to_the_pairs_as_they_get_cheaper() -> None:
    x, y = profiles(20, 5, seed=1), profiles(20, 5, seed=2)

    own = [float(coupling(x, y, pair_cost=mu).diagonal().sum()) for mu in (0.0, 0.1, 0.5, 10.0)]

    assert own == sorted(own)
    assert own[0] < 0.3
    assert own[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("points", "options", "complaint"),
    [
        (4, {"pair_cost": -1.0}, "pair_cost must be a finite number, 0 or above"),
        (4, {"pair_cost": float("inf")}, "pair_cost must be a finite number"),
        (5, {"pair_cost": 1.0}, "points come in pairs; got 4 and 5"),
        (4, {"pair_cost": 1.0, "apart": torch.zeros(4, 4)}, r"apart must be bool \(4, 4\)"),
        (4, {"pair_cost": 1.0, "apart": torch.ones(4, 4, dtype=torch.bool)}, "apart must tell groups"),
        (
            4,  # 0 is together with 1 and with 2, but they are apart
            {"pair_cost": 1.0, "apart": torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]).bool()},
            "apart must tell groups",
        ),
    ],
)
def test_a_fused_cost_that_cannot_be_is_said(points: int, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sinkhorn_divergence(torch.zeros(4, 2), torch.zeros(points, 2), **options)


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

    assert abs(value - exact) <= tolerance(x, y, exact, 1e-6)


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
