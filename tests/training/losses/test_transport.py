"""One entropic problem: bounds that need no other solver, a warm start, and what is said where it fails."""

import pytest
import torch

from training.errors import NotConverged
from training.losses.sinkhorn import half_squared_distances
from training.losses.transport import rounding_limit, solve_between, solve_within


def profiles(n: int, d: int, seed: int) -> torch.Tensor:
    """A cloud like rows of a similarity matrix: in [0, 2], in a few clusters."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(4, d, generator=generator, dtype=torch.float64)
    which = torch.randint(0, 4, (n,), generator=generator)
    return (centres[which] + 0.3 * torch.randn(n, d, generator=generator, dtype=torch.float64)).clamp(0, 2)


@pytest.mark.parametrize("blur", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(("n", "d"), [(64, 15), (256, 60), (512, 120), (512, 512)])
def test_primal_and_dual_meet_so_no_other_solver_is_needed_to_trust_it(n: int, d: int, blur: float) -> None:
    """For any potentials the dual value is a lower bound, and for any coupling the primal one an upper bound."""
    cost, epsilon = half_squared_distances(profiles(n, d, seed=3), profiles(n, d, seed=4)), blur**2

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


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25), (25, 40)])
def test_a_start_next_to_the_solution_leads_to_the_same_one(n: int, m: int) -> None:
    cost = half_squared_distances(profiles(n, 8, seed=1), profiles(m, 8, seed=2))
    near = solve_between(cost * 1.05, 0.01, 1e-6)

    cold, warm = solve_between(cost, 0.01, 1e-10), solve_between(cost, 0.01, 1e-10, start=near)

    torch.testing.assert_close(warm.plan, cold.plan, rtol=0, atol=1e-9)


def test_the_residual_that_rounding_leaves_grows_with_exponents_and_with_the_terms_of_a_sum() -> None:
    """8 (1 + 0.5 / 0.25) ulps of the exponents, and half an ulp for each of 3 + 5 terms."""
    assert rounding_limit(3, 5, cost_max=0.5, epsilon=0.25) == (24 + 4) * 2**-52


def test_not_converging_is_an_error_with_the_residual_and_advice() -> None:
    x, y = profiles(40, 8, seed=12), profiles(40, 8, seed=13)

    with pytest.raises(NotConverged, match=r"marginal residual of .* raise blur"):
        solve_between(half_squared_distances(x, y), 0.05**2, 1e-12, max_steps=0)
    with pytest.raises(NotConverged, match="stopped after 1 steps"):
        solve_within(half_squared_distances(x, x), 0.05**2, 1e-12, max_steps=1)
