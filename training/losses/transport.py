"""One entropic optimal transport problem, solved to a residual: the best coupling of two clouds, or of one with itself.

OT = min <P, C> + epsilon KL(P | a x b) over the couplings P of a and b, uniform weights, any costs C that are not
negative.

Between two clouds: scaling sweeps (Cuturi 2013) while epsilon falls from the scale of the costs to its value, and
damped Newton steps on the semi-dual D(g) = mean f(g) + mean g with f(g)_i = -epsilon log mean_j exp((g_j - C_ij) /
epsilon) (Cuturi and Peyre, "Semidual regularized optimal transport", SIAM Review 2018). Of a cloud to itself: the one
potential is the fixed point of a map that does not expand distances, averaged so that it converges.

Everything is float64. Axes: n and m points.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

START = 32.0
"""Epsilon starts at the largest cost divided by this."""
COOLING = 4.0
"""Epsilon is divided by this from one level to the next."""
SWEEPS = 12
"""Scaling sweeps at one level: each costs two matrix-vector products, a Newton step a factorisation."""
LOOSE = 0.01
"""The residual that is good enough to cool further: Newton converges from there."""
REFACTOR = 30.0
"""A factor serves again as long as each step with it divides the residual by this."""
NEGLIGIBLE = 1e-150
"""Shares of mass below this count as none: their products would be denormal numbers, on which processors crawl."""
MAX_STEPS = 300
"""Newton steps, or sweeps of a self-transport, before giving up. Hard problems were seen to need about 60."""


class NotConverged(ArithmeticError):
    """The marginals of the plan miss their weights by more than was asked."""


class Transport(NamedTuple):
    """One entropic problem, solved: its potentials f (n,) and g (m,), and its plan (n, m), with the sum 1."""

    f: Tensor
    g: Tensor
    plan: Tensor

    @property
    def value(self) -> Tensor:
        """The dual value, a scalar: it errs by the square of the potentials' errors."""
        return self.f.mean() + self.g.mean()

    @property
    def transposed(self) -> "Transport":
        """The same problem, seen from the other cloud."""
        return Transport(self.g, self.f, self.plan.T)


def rounding_limit(cost_max: float, epsilon: float) -> float:
    """The residual that float64 cannot go below: exponents of size max cost / epsilon carry that many ulps."""
    return 8 * torch.finfo(torch.float64).eps * (1 + cost_max / epsilon)


def solve_between(
    cost: Tensor, epsilon: float, limit: float, *, start: Transport | None = None, max_steps: int = MAX_STEPS
) -> Transport:
    """OT between two clouds with the costs `cost` (n, m), until the column sums miss 1/m by `limit` in all.

    `start` is the solution for costs that were nearly these: then epsilon need not fall from a larger value. Raises
    NotConverged where `max_steps` Newton steps at one level of epsilon are not enough.
    """
    n, m = cost.shape
    if m > n:  # Newton factorises m x m
        other = None if start is None else start.transposed
        return solve_between(cost.T.contiguous(), epsilon, limit, start=other, max_steps=max_steps).transposed
    cost_max = float(cost.max())
    limit = max(limit, rounding_limit(cost_max, epsilon))
    row_plan = RowPlan(cost)
    g, level = (cost.new_zeros(m), max(cost_max / START, epsilon)) if start is None else (start.g, epsilon)
    while level > epsilon:
        g = ascend(row_plan, sweep(row_plan, g, level), level, LOOSE, max_steps)
        level = max(level / COOLING, epsilon)
    g = ascend(row_plan, sweep(row_plan, g, epsilon), epsilon, limit, max_steps)
    f = -epsilon * (torch.logsumexp((g - cost) / epsilon, 1) - math.log(m))  # (n,), the best for g
    return Transport(f, g, row_plan(g, epsilon) / n)


def ascend(row_plan: "RowPlan", g: Tensor, epsilon: float, limit: float, max_steps: int) -> Tensor:
    """Newton steps on the semi-dual from g (m,) until the residual is at most `limit`."""
    residual, factor = math.inf, None
    for _ in range(max_steps + 1):
        rows = row_plan(g, epsilon)
        excess = rows.mean(0) - 1 / len(g)  # (m,), the rows sum to 1 exactly
        before, residual = residual, float(excess.abs().sum())
        if residual <= limit:
            return g
        if factor is None or residual > before / REFACTOR:
            factor = factorise(rows, excess)
        g = g + epsilon * newton_step(rows, excess, factor)
    raise NotConverged(explain(residual, limit, max_steps, float(row_plan.cost.max()), epsilon))


class RowPlan:
    """From g (m,) to the plan that it implies, its rows scaled to sum to 1: (n, m), overwritten by the next call.

    Fresh memory for each plan would cost more than the arithmetic.
    """

    def __init__(self, cost: Tensor) -> None:
        self.cost = cost
        self.exponent = torch.empty_like(cost)
        self.rows = torch.empty_like(cost)

    def __call__(self, g: Tensor, epsilon: float) -> Tensor:
        torch.add(g / epsilon, self.cost, alpha=-1 / epsilon, out=self.exponent)
        torch.softmax(self.exponent, 1, out=self.rows)
        return self.rows.clamp_min_(NEGLIGIBLE)


def sweep(row_plan: RowPlan, g: Tensor, epsilon: float) -> Tensor:
    """SWEEPS rounds of Sinkhorn's scaling from g (m,): one exponential, then matrix-vector products."""
    rows = row_plan(g, epsilon)
    v = torch.ones_like(g)
    for _ in range(SWEEPS):
        u = (rows @ v).reciprocal_()  # (n,)
        v = torch.mv(rows.T, u).reciprocal_()  # (m,), up to a factor, which changes nothing
    return g + epsilon * v.log()


def factorise(rows: Tensor, excess: Tensor) -> Tensor:
    """The Cholesky factor (m, m) of minus the Hessian of D / epsilon in g / epsilon, times m.

    That is a graph's Laplacian, diag(m c) - (m/n) rows^T rows, singular along the constants only; adding 1/m everywhere
    lifts those. Where clusters hardly exchange mass it is singular to rounding, and the ridge turns the step into
    Levenberg and Marquardt's.
    """
    n, m = rows.shape
    hessian = torch.mm(rows.T, rows).mul_(-m / n).add_(1 / m)
    diagonal = hessian.diagonal()
    diagonal.add_(1 + m * excess)
    factor, ridge, failed = hessian, 1e-13, 1
    while failed and ridge < 1:
        diagonal.add_(ridge)
        factor, info = torch.linalg.cholesky_ex(hessian)
        ridge, failed = ridge * 100, int(info)
    return factor


def newton_step(rows: Tensor, excess: Tensor, factor: Tensor) -> Tensor:
    """The damped step of g / epsilon, (m,), from the plan (n, m), its excess (m,) and the Hessian's factor (m, m)."""
    step = torch.cholesky_solve((-len(excess) * excess)[:, None], factor)[:, 0]
    step = step - step.mean()
    return line_search(rows, excess, step) * step


def line_search(rows: Tensor, excess: Tensor, step: Tensor) -> float:
    """The share of `step` to take: the first of 1, 1/2, ... that gains a tenth of what the slope promises."""
    slope = -float(excess @ step)
    share = min(1.0, 20 / max(float(step.abs().max()), 1.0))  # exp(20) is as far as one step can be trusted
    while share > 1e-6:
        gain = -float(torch.log1p(rows @ torch.expm1(share * step)).mean())  # of D / epsilon; the step's mean is 0
        if gain >= 0.1 * share * slope or slope < 1e-12:
            break
        share /= 2
    return share


def solve_within(cost: Tensor, epsilon: float, limit: float, *, max_steps: int = MAX_STEPS) -> Transport:
    """OT of a cloud to itself, costs (n, n), until the row sums miss 1/n by `limit` in all.

    T(f)_i = -epsilon log mean_j exp((f_j - C_ij)/epsilon) expands no distance in the maximum norm, hence steps of 2/3
    of the way to T(f) converge from everywhere (Ishikawa 1976). Near the end each leaves at most a third of the error,
    where exp(-C / epsilon) has no negative eigenvalue, as a Gaussian kernel has none.
    """
    n = len(cost)
    cost_max = float(cost.max())
    limit = max(limit, rounding_limit(cost_max, epsilon))
    kernel = (cost / -epsilon).exp_().clamp_min_(NEGLIGIBLE)
    w = cost.new_full((n,), n**-0.5)  # exp(f / epsilon) / sqrt(n)
    for step in range(max_steps + 1):
        mass = w * torch.mv(kernel, w)  # (n,), n times the row sums
        if step % 4 == 0:
            residual = float((mass - 1).abs().mean())
            if residual <= limit:
                w = w * mass.mean().rsqrt()  # now the plan sums to 1, and the dual has no term for its mass
                f = epsilon * (w.log() + math.log(n) / 2)
                return Transport(f, f, kernel.mul_(w[:, None]).mul_(w / n))
        w = w * mass.pow_(-2 / 3)
    raise NotConverged(explain(residual, limit, max_steps, cost_max, epsilon))


def explain(residual: float, limit: float, steps: int, cost_max: float, epsilon: float) -> str:
    """The message of NotConverged."""
    return (
        f"optimal transport stopped after {steps} steps with a marginal residual of {residual:.1e}, above {limit:.1e}; "
        f"the largest cost is {cost_max:.3g} and epsilon (blur squared) {epsilon:.3g}: "
        "raise blur, or scale the clouds down"
    )
