"""One entropic optimal transport problem, solved to a residual: the best coupling of two clouds, or of one with itself.

OT = min <P, C> + epsilon KL(P | a x b) over the couplings P of a and b, uniform weights, any costs C that are not
negative.

Between two clouds: scaling sweeps (Cuturi 2013) while epsilon falls from the scale of the costs to its value, and
damped Newton steps on the semi-dual D(g) = mean f(g) + mean g with f(g)_i = -epsilon log mean_j exp((g_j - C_ij) /
epsilon) (Cuturi and Peyre, "Semidual regularized optimal transport", SIAM Review 2018). Of a cloud to itself: the one
potential is the fixed point of a map that does not expand distances, averaged so that it converges.

On a CPU the host looks at numbers as it likes; an accelerator would stand still each time. There Newton's steps are
taken without a look at them (`climb`), more of them than are needed, and only then is the residual read.

Everything is float64. Axes: n and m points.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from training.errors import NotConverged

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
RIDGE = 1e-13
"""Added to the diagonal of each Hessian, and a hundred times as much wherever that was not enough."""
NEGLIGIBLE = 1e-150
"""Shares of mass below this count as none: their products would be denormal numbers, on which processors crawl."""
MAX_STEPS = 300
"""Newton steps, or sweeps of a self-transport, before giving up. Hard problems were seen to need about 60."""
LEVEL_STEPS = 2
"""Newton steps at each level of epsilon but the last, where nothing is read."""
FIRST_STEPS = 4
"""Newton steps at the last level before its residual is read; from then on as many again as were taken before."""
SHARES = 10
"""Of a step, each a quarter of the last: those of a line search that tries all at once."""
SWEEPS_UNREAD = 24
"""Sweeps of a self-transport from one look at its residual to the next."""


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


def rounding_limit(n: int, m: int, cost_max: float, epsilon: float) -> float:
    """The residual of a plan (n, m) that float64 may be unable to go below.

    Exponents of size max cost / epsilon carry that many ulps, and so does the mass that they stand for. Besides, mass
    is added up along rows and columns, and a sum of k positive terms errs by up to (k - 1) eps / 2 of itself in
    whichever order they are added (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2). That
    is no pessimism: in clouds of equal points all terms are rounded alike, and the errors do not cancel.
    """
    return torch.finfo(torch.float64).eps * (8 * (1 + cost_max / epsilon) + (n + m) / 2)


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
    limit = max(limit, rounding_limit(n, m, cost_max, epsilon))
    row_plan, seen = RowPlan(cost), reads_are_free(cost.device)
    g, level = (cost.new_zeros(m), max(cost_max / START, epsilon)) if start is None else (start.g, epsilon)
    while level > epsilon:
        g = sweep(row_plan, g, level)
        g = ascend(row_plan, g, level, LOOSE, max_steps) if seen else climb(row_plan, g, level, LEVEL_STEPS)
        level = max(level / COOLING, epsilon)
    g = (ascend if seen else ascend_unread)(row_plan, sweep(row_plan, g, epsilon), epsilon, limit, max_steps)
    f = -epsilon * (torch.logsumexp((g - cost) / epsilon, 1) - math.log(m))  # (n,), the best for g
    return Transport(f, g, row_plan(g, epsilon) / n)


def reads_are_free(device: torch.device) -> bool:
    """Whether the host can look at a number of `device` without making it wait."""
    return device.type == "cpu"


def ascend(row_plan: "RowPlan", g: Tensor, epsilon: float, limit: float, max_steps: int) -> Tensor:
    """Newton steps on the semi-dual from g (m,) until the residual is at most `limit`."""
    residual, factor = math.inf, None
    for _ in range(max_steps + 1):
        rows = row_plan(g, epsilon)
        excess = excess_of(rows)
        before, residual = residual, float(excess.abs().sum())
        if residual <= limit:
            return g
        if factor is None or residual > before / REFACTOR:
            factor = factorise(rows, excess)
        g = g + epsilon * newton_step(rows, excess, factor)
    raise NotConverged(explain(residual, limit, max_steps, float(row_plan.cost.max()), epsilon))


def ascend_unread(row_plan: "RowPlan", g: Tensor, epsilon: float, limit: float, max_steps: int) -> Tensor:
    """What `ascend` does, with a look at the residual after 4, 8, 16, ... steps: at most 8 looks at MAX_STEPS."""
    done = 0
    while True:
        steps = min(max(done, FIRST_STEPS), max_steps - done)
        g, done = climb(row_plan, g, epsilon, steps), done + steps
        residual = float(excess_of(row_plan(g, epsilon)).abs().sum())
        if residual <= limit:
            return g
        if done == max_steps:
            raise NotConverged(explain(residual, limit, max_steps, float(row_plan.cost.max()), epsilon))


def climb(row_plan: "RowPlan", g: Tensor, epsilon: float, steps: int) -> Tensor:
    """So many Newton steps on the semi-dual from g (m,), each with a factor of its own; the host reads nothing.

    A step whose factorisation fails is not taken: the next one is tried with a larger ridge.
    """
    ridge = g.new_full((), RIDGE)
    for _ in range(steps):
        rows = row_plan(g, epsilon)
        excess = excess_of(rows)
        factor, info = torch.linalg.cholesky_ex(hessian_of(rows, excess, ridge))
        step = full_step(excess, factor)
        taken = g + epsilon * share_at_once(rows, excess, step) * step
        g = torch.where(info == 0, taken, g)
        ridge = torch.where(info == 0, RIDGE, 100 * ridge)
    return g


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


def excess_of(rows: Tensor) -> Tensor:
    """By how much the columns of `rows` / n exceed their weights: (m,). The rows (n, m) sum to 1 exactly."""
    return rows.mean(0) - 1 / rows.shape[1]


def factorise(rows: Tensor, excess: Tensor) -> Tensor:
    """The Cholesky factor (m, m) of `hessian_of`, with the smallest ridge that will do."""
    ridge = RIDGE
    hessian = hessian_of(rows, excess, ridge)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(hessian)
    while int(info) and ridge < 0.01:
        ridge *= 100
        hessian.diagonal().add_(ridge)
        factor, info = torch.linalg.cholesky_ex(hessian)
    return factor


def hessian_of(rows: Tensor, excess: Tensor, ridge: float | Tensor) -> Tensor:
    """Minus the Hessian (m, m) of D / epsilon in g / epsilon, times m, with `ridge` on its diagonal.

    That is a graph's Laplacian, diag(m c) - (m/n) rows^T rows, singular along the constants only; adding 1/m everywhere
    lifts those. Where clusters hardly exchange mass it is singular to rounding, and the ridge turns the step into
    Levenberg and Marquardt's.
    """
    n, m = rows.shape
    hessian = torch.mm(rows.T, rows).mul_(-m / n).add_(1 / m)
    hessian.diagonal().add_(1 + m * excess).add_(ridge)
    return hessian


def newton_step(rows: Tensor, excess: Tensor, factor: Tensor) -> Tensor:
    """The damped step of g / epsilon, (m,), from the plan (n, m), its excess (m,) and the Hessian's factor (m, m)."""
    step = full_step(excess, factor)
    return line_search(rows, excess, step) * step


def full_step(excess: Tensor, factor: Tensor) -> Tensor:
    """Newton's step of g / epsilon, (m,), its mean 0."""
    step = torch.cholesky_solve((-len(excess) * excess)[:, None], factor)[:, 0]
    return step - step.mean()


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


def share_at_once(rows: Tensor, excess: Tensor, step: Tensor) -> Tensor:
    """What `line_search` chooses, of fewer shares and all tried, so that the host reads none: a scalar tensor."""
    slope = -(excess @ step)
    most = (20 / step.abs().amax()).clamp(max=1.0)
    shares = most * torch.pow(0.25, torch.arange(SHARES, dtype=step.dtype, device=step.device))  # descending
    gains = -torch.log1p(rows @ torch.expm1(step[:, None] * shares)).mean(0)
    enough = (gains >= 0.1 * shares * slope) | (slope < 1e-12)
    return torch.where(enough, shares, shares[-1]).amax()


def solve_within(cost: Tensor, epsilon: float, limit: float, *, max_steps: int = MAX_STEPS) -> Transport:
    """OT of a cloud to itself, costs (n, n), until the row sums miss 1/n by `limit` in all.

    T(f)_i = -epsilon log mean_j exp((f_j - C_ij)/epsilon) expands no distance in the maximum norm, hence steps of 2/3
    of the way to T(f) converge from everywhere (Ishikawa 1976). Near the end each leaves at most a third of the error,
    where exp(-C / epsilon) has no negative eigenvalue, as a Gaussian kernel has none.
    """
    n = len(cost)
    cost_max = float(cost.max())
    limit = max(limit, rounding_limit(n, n, cost_max, epsilon))
    kernel = (cost / -epsilon).exp_().clamp_min_(NEGLIGIBLE)
    w = cost.new_full((n,), n**-0.5)  # exp(f / epsilon) / sqrt(n)
    unread = 4 if reads_are_free(cost.device) else SWEEPS_UNREAD
    for step in range(max_steps + 1):
        mass = w * torch.mv(kernel, w)  # (n,), n times the row sums
        if step == max_steps or (step and step % unread == 0):
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
