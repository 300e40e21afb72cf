"""The debiased entropic OT divergence between two point clouds, solved to a tolerance.

S(a, b) = OT(a, b) - OT(a, a)/2 - OT(b, b)/2 with OT(a, b) = min <P, C> + epsilon KL(P | a x b) over the couplings P of
a and b, C_ij = |x_i - y_j|^2 / 2, epsilon = blur^2 and uniform weights: Feydy et al., "Interpolating between Optimal
Transport and MMD using Sinkhorn Divergences", AISTATS 2019 (arXiv 1810.08278).

How each problem is solved stands in `training.losses.transport`. The gradient is that of the dual at its maximum (the
envelope theorem): nothing is unrolled, memory is O(nm + n^2 + m^2), second derivatives are absent.

Where x_i and y_i are known to belong together, moving mass between points that do not may cost mu more: the fused cost
C_ij + mu [i != j], or mu [i and j are of different groups], in all three problems alike. That is the plain divergence
of the clouds with sqrt(mu) e_i, or sqrt(mu) e_group(i), appended to their points, because half the squared distance of
two such vectors is mu. So it stays symmetric, never negative, and zero, with no gradient, for identical clouds. With
pairs and a large mu all three plans are the diagonal, their entropies cancel, and it is mean_i |x_i - y_i|^2 / 2.

Everything runs in float64 whatever the inputs are: the divergence is a small difference of large numbers.
Axes: n and m points, d coordinates.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.losses.transport import Transport, solve_between, solve_within

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
"""Relative error of the value, by the dtype of the inputs; smaller dtypes are read as float32."""


class Solution(NamedTuple):
    """The three problems of one divergence."""

    between: Transport
    within_x: Transport
    within_y: Transport


def sinkhorn_divergence(
    x: Tensor, y: Tensor, *, blur: float = 0.1, pair_cost: float = 0.0, apart: Tensor | None = None
) -> Tensor:
    """The Sinkhorn divergence of the clouds x (n, d) and y (m, d), uniform weights, as a scalar tensor.

    `blur` is the square root of epsilon, in the units of the coordinates. The result is float64 for float64 inputs and
    else float32. Differentiable once in both arguments. With tol = 1e-6 (1e-9 for float64) the value is solved to
    tol * max(S, mean cost / 100). Zero for identical clouds, |t|^2 / 2 for a cloud and itself moved by t.

    `pair_cost` mu, in units of the half squared distance, is added to the cost between points i != j, or where `apart`
    (n, n), bool, says so: for clouds of one size whose points come in pairs. `apart` tells groups from each other, as
    labels[:, None] != labels[None, :] does.

    Raises ValueError for shapes that do not fit, empty clouds, entries that are not finite or whose squares overflow,
    a `blur` that is not positive, a `pair_cost` below 0, or an `apart` that no grouping gives; NotConverged if the
    tolerance cannot be reached.

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> round(float(sinkhorn_divergence(x, x + torch.tensor([0.0, 2.0]))), 4)
    2.0
    """
    check_clouds(x, y, blur)
    fused = fused_cost(x, y, pair_cost, apart)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    value: Tensor = Divergence.apply(  # type: ignore[no-untyped-call]
        x.double(), y.double(), blur, fused, TOLERANCE[dtype]
    )
    return value.to(dtype)


@torch.no_grad()
def coupling(x: Tensor, y: Tensor, *, blur: float = 0.1, pair_cost: float = 0.0, apart: Tensor | None = None) -> Tensor:
    """The plan P (n, m) of OT(x, y), float64, sum 1, without gradient: P_ij is the mass that goes from x_i to y_j.

    Arguments and errors are those of `sinkhorn_divergence`.
    """
    check_clouds(x, y, blur)
    cost = half_squared_distances(x.double(), y.double())
    mean_distance = float(cost.mean())
    cost.add_(fused_cost(x, y, pair_cost, apart))
    return solve_between(cost, blur**2, residual_limit(mean_distance, cost, TOLERANCE[torch.float32])).plan


def check_clouds(x: Tensor, y: Tensor, blur: float) -> None:
    """Raise ValueError unless x and y are clouds of one dimension, finite, and `blur` is positive."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.numel() or not y.numel():
        raise ValueError(f"expected clouds (n, d) and (m, d), neither empty; got {tuple(x.shape)} and {tuple(y.shape)}")
    if not (math.isfinite(blur) and blur > 0):
        raise ValueError(f"blur must be a finite number above 0, the square root of epsilon; got {blur}")
    for name, cloud in (("x", x), ("y", y)):
        if not torch.isfinite(cloud).all():
            raise ValueError(f"{name} holds NaN or infinity; look for the layer that made it before taking a loss")


def fused_cost(x: Tensor, y: Tensor, pair_cost: float, apart: Tensor | None) -> Tensor:
    """What is added to the costs of clouds x (n, d) and y (m, d), float64: (n, n), or (1, 1), one 0, for mu = 0."""
    if not (math.isfinite(pair_cost) and pair_cost >= 0):
        raise ValueError(f"pair_cost must be a finite number, 0 or above, in units of the cost; got {pair_cost}")
    if pair_cost == 0:
        return x.new_zeros(1, 1, dtype=torch.float64)
    if len(x) != len(y):
        raise ValueError(f"pair_cost needs clouds whose points come in pairs; got {len(x)} and {len(y)} points")
    if apart is None:
        apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    check_groups(apart, len(x))
    return pair_cost * apart.double()


def check_groups(apart: Tensor, points: int) -> None:
    """Raise ValueError unless `apart` is bool (n, n), and not to be apart is reflexive, symmetric and transitive."""
    if apart.dtype != torch.bool or apart.shape != (points, points):
        raise ValueError(f"apart must be bool ({points}, {points}); got {apart.dtype} {tuple(apart.shape)}")
    together = (~apart).double()
    linked = together @ together > 0  # by one other point at most
    if apart.diagonal().any() or not torch.equal(apart, apart.T) or (linked & apart).any():
        raise ValueError("apart must tell groups from each other, as labels[:, None] != labels[None, :] does")


class Divergence(torch.autograd.Function):
    """The divergence of float64 clouds and its gradient: at the optimum the potentials' own derivatives vanish."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, blur: float, fused: Tensor, tolerance: float) -> Tensor:
        centre = x.mean(0)  # a common shift changes nothing but the rounding
        x, y = x - centre, y - centre
        between, within_x, within_y = solve(x, y, blur**2, fused, tolerance)
        grad_x = within_x.plan @ x - between.plan @ y if ctx.needs_input_grad[0] else None  # (n, d)
        grad_y = within_y.plan @ y - between.plan.T @ x if ctx.needs_input_grad[1] else None  # (m, d)
        ctx.save_for_backward(grad_x, grad_y)
        return between.value - (within_x.value + within_y.value) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_x, grad_y = ctx.saved_tensors
        return (None if grad_x is None else grad * grad_x, None if grad_y is None else grad * grad_y, None, None, None)


def solve(x: Tensor, y: Tensor, epsilon: float, fused: Tensor, tolerance: float) -> Solution:
    """All three problems of float64 clouds, each so far that the divergence meets `tolerance`."""
    cost = half_squared_distances(x, y)
    mean_distance = float(cost.mean())
    limit = residual_limit(mean_distance, cost.add_(fused), tolerance)
    # A self-transport is at least as curved as its entropy, so its value errs by the square of the residual only.
    self_limit = tolerance / 10 * min(1.0, mean_distance / epsilon)
    return Solution(
        solve_between(cost, epsilon, limit),
        solve_within(half_squared_distances(x, x).add_(fused), epsilon, self_limit),
        solve_within(half_squared_distances(y, y).add_(fused), epsilon, self_limit),
    )


def half_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 / 2, (n, m), never below 0."""
    half_x, half_y = x.square().sum(1, keepdim=True) / 2, y.square().sum(1, keepdim=True) / 2
    left = torch.cat([x, half_x, torch.ones_like(half_x)], 1)  # (n, d + 2)
    right = torch.cat([-y, torch.ones_like(half_y), half_y], 1)  # (m, d + 2)
    return torch.mm(left, right.T).clamp_min_(0)


def residual_limit(mean_distance: float, cost: Tensor, tolerance: float) -> float:
    """The mass that may be missing for an error of `tolerance` * mean_distance / 100.

    The dual value misses the optimum by at most residual * (range of the potentials), and potentials range over no
    more than the costs (n, m) do, in which mu may be much larger than the distances.
    """
    largest = float(cost.max())
    if not math.isfinite(largest):
        raise ValueError("the squared distances overflow; scale the embeddings down")
    return tolerance / 100 * mean_distance / largest if largest else tolerance / 100
