"""The debiased entropic OT divergence between two point clouds, solved to a tolerance.

S(a, b) = OT(a, b) - OT(a, a)/2 - OT(b, b)/2 with OT(a, b) = min <P, C> + epsilon KL(P | a x b) over the couplings P of
a and b, C_ij = |x_i - y_j|^2 / 2, epsilon = blur^2 and uniform weights: Feydy et al., "Interpolating between Optimal
Transport and MMD using Sinkhorn Divergences", AISTATS 2019 (arXiv 1810.08278).

How it is solved. OT(a, b): scaling sweeps (Cuturi 2013) while epsilon falls from the scale of the costs to its value,
and damped Newton steps on the semi-dual D(g) = mean f(g) + mean g with f(g)_i = -epsilon log mean_j exp((g_j - C_ij) /
epsilon) (Cuturi and Peyre, "Semidual regularized optimal transport", SIAM Review 2018). OT(a, a): its one potential is
the fixed point of a map that does not expand distances, averaged so that it converges. The gradient is that of the dual
at its maximum (the envelope theorem): nothing is unrolled, memory is O(nm + n^2 + m^2), second derivatives are absent.

Everything runs in float64 whatever the inputs are: the divergence is a small difference of large numbers.
Axes: n and m points, d coordinates.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
"""Relative error of the value, by the dtype of the inputs; smaller dtypes are read as float32."""


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


class Solution(NamedTuple):
    """The three problems of one divergence."""

    between: Transport
    within_x: Transport
    within_y: Transport


def sinkhorn_divergence(x: Tensor, y: Tensor, *, blur: float = 0.1) -> Tensor:
    """The Sinkhorn divergence of the clouds x (n, d) and y (m, d), uniform weights, as a scalar tensor.

    `blur` is the square root of epsilon, in the units of the coordinates. The result is float64 for float64 inputs and
    else float32. Differentiable once in both arguments. With tol = 1e-6 (1e-9 for float64) the value is solved to
    tol * max(S, mean cost / 100). Zero for identical clouds, |t|^2 / 2 for a cloud and itself moved by t.

    Raises ValueError for shapes that do not fit, empty clouds, entries that are not finite or whose squares overflow,
    or a `blur` that is not positive; NotConverged if the tolerance cannot be reached.

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> round(float(sinkhorn_divergence(x, x + torch.tensor([0.0, 2.0]))), 4)
    2.0
    """
    check_clouds(x, y, blur)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    value: Tensor = Divergence.apply(x.double(), y.double(), blur, TOLERANCE[dtype])  # type: ignore[no-untyped-call]
    return value.to(dtype)


@torch.no_grad()
def coupling(x: Tensor, y: Tensor, *, blur: float = 0.1) -> Tensor:
    """The plan P (n, m) of OT(x, y), float64, sum 1, without gradient: P_ij is the mass that goes from x_i to y_j.

    Raises as `sinkhorn_divergence`.
    """
    check_clouds(x, y, blur)
    cost = half_squared_distances(x.double(), y.double())
    return solve_between(cost, blur**2, residual_limit(cost, TOLERANCE[torch.float32])).plan


def check_clouds(x: Tensor, y: Tensor, blur: float) -> None:
    """Raise ValueError unless x and y are clouds of one dimension, finite, and `blur` is positive."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.numel() or not y.numel():
        raise ValueError(f"expected clouds (n, d) and (m, d), neither empty; got {tuple(x.shape)} and {tuple(y.shape)}")
    if not (math.isfinite(blur) and blur > 0):
        raise ValueError(f"blur must be a finite number above 0, the square root of epsilon; got {blur}")
    for name, cloud in (("x", x), ("y", y)):
        if not torch.isfinite(cloud).all():
            raise ValueError(f"{name} holds NaN or infinity; look for the layer that made it before taking a loss")


class Divergence(torch.autograd.Function):
    """The divergence of float64 clouds and its gradient: at the optimum the potentials' own derivatives vanish."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, blur: float, tolerance: float) -> Tensor:
        centre = x.mean(0)  # a common shift changes nothing but the rounding
        x, y = x - centre, y - centre
        between, within_x, within_y = solve(x, y, blur**2, tolerance)
        grad_x = within_x.plan @ x - between.plan @ y if ctx.needs_input_grad[0] else None  # (n, d)
        grad_y = within_y.plan @ y - between.plan.T @ x if ctx.needs_input_grad[1] else None  # (m, d)
        ctx.save_for_backward(grad_x, grad_y)
        return between.value - (within_x.value + within_y.value) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_x, grad_y = ctx.saved_tensors
        return (None if grad_x is None else grad * grad_x, None if grad_y is None else grad * grad_y, None, None)


def solve(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Solution:
    """All three problems of float64 clouds, each so far that the divergence meets `tolerance`."""
    cost = half_squared_distances(x, y)
    limit = residual_limit(cost, tolerance)
    # A self-transport is at least as curved as its entropy, so its value errs by the square of the residual only.
    self_limit = tolerance / 10 * min(1.0, float(cost.mean()) / epsilon)
    return Solution(
        solve_between(cost, epsilon, limit),
        solve_within(half_squared_distances(x, x), epsilon, self_limit),
        solve_within(half_squared_distances(y, y), epsilon, self_limit),
    )


def half_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 / 2, (n, m), never below 0."""
    half_x, half_y = x.square().sum(1, keepdim=True) / 2, y.square().sum(1, keepdim=True) / 2
    left = torch.cat([x, half_x, torch.ones_like(half_x)], 1)  # (n, d + 2)
    right = torch.cat([-y, torch.ones_like(half_y), half_y], 1)  # (m, d + 2)
    return torch.mm(left, right.T).clamp_min_(0)


def residual_limit(cost: Tensor, tolerance: float) -> float:
    """The mass that may be missing for an error of `tolerance` * mean cost / 100.

    The dual value misses the optimum by at most residual * (range of the potentials), and potentials range over no
    more than the costs do.
    """
    largest = float(cost.max())
    if not math.isfinite(largest):
        raise ValueError("the squared distances overflow; scale the embeddings down")
    return tolerance / 100 * float(cost.mean()) / largest if largest else tolerance / 100


def rounding_limit(cost_max: float, epsilon: float) -> float:
    """The residual that float64 cannot go below: exponents of size max cost / epsilon carry that many ulps."""
    return 8 * torch.finfo(torch.float64).eps * (1 + cost_max / epsilon)


def solve_between(cost: Tensor, epsilon: float, limit: float, *, max_steps: int = MAX_STEPS) -> Transport:
    """OT between two clouds with the costs `cost` (n, m), until the column sums miss 1/m by `limit` in all.

    Raises NotConverged where `max_steps` Newton steps at one level of epsilon are not enough.
    """
    n, m = cost.shape
    if m > n:  # Newton factorises m x m
        g, f, plan = solve_between(cost.T.contiguous(), epsilon, limit, max_steps=max_steps)
        return Transport(f, g, plan.T)
    cost_max = float(cost.max())
    limit = max(limit, rounding_limit(cost_max, epsilon))
    row_plan = RowPlan(cost)
    g = cost.new_zeros(m)
    level = max(cost_max / START, epsilon)
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
    since the Gaussian kernel has no negative eigenvalue.
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
