"""Entropic Gromov-Wasserstein: are the student's samples similar to each other as the teacher's are, whoever is whom?

GW(C, D) = min_P sum_ijkl (C_ik - D_jl)^2 P_ij P_kl + epsilon KL(P | a x b) over the couplings P of two uniform weights:
Peyre, Cuturi and Solomon, "Gromov-Wasserstein averaging of kernel and distance matrices", ICML 2016. C and D are the
cosine similarities of the batch. Debiased as the OT divergence is, with GW(C, C) and GW(D, D), so that a copy of the
teacher costs nothing: Bunne et al., ICML 2019 (arXiv 1905.05461).

How it is solved. With its marginals fixed the sum is |C|^2/n^2 + |D|^2/n^2 - 2 <C P D, P>, and similarities of cosines
are positive semidefinite, so that <A, B> = tr(C A D B^T) is an inner product, and -2 <P, P> is the least of
2 <X, X> - 4 <X, P> over all matrices X: GW = |C|^2/n^2 + |D|^2/n^2 + min Phi, Phi(X) = 2 <X, X> + OT(-4 C X D), with
entropic OT of these costs (Rioux, Goldfeld and Kato, "Entropic Gromov-Wasserstein distances: stability and algorithms",
2023). In this inner product Phi's gradient is 4 (X - P(X)), where P(X) is the coupling of that OT problem, and its
Hessian at most 4. So the plain step, to X = P(X), lowers Phi by 2 |P(X) - X|^2 at least. It is that of Yuille and
Rangarajan, "The concave-convex procedure", 2003, and slow next to saddles, which identical samples make. Near the end
L-BFGS therefore chooses the step (Liu and Nocedal, "On the limited memory BFGS method", 1989); one that falls short of
what the plain step is sure to gain is taken back.

The minimum that it finds is a local one, near the pairing that is known, P = I/n, where it begins. (From P = a x b, the
other usual start, it would not move at all for centred features: that is a saddle.)

Axes: B samples, D features. A pair (2, B, B) is a matrix X and its image C X D.
"""

import math
from collections import deque

import torch
from torch import Tensor

from training.errors import NotConverged
from training.losses.ot import check_embeddings, similarity
from training.losses.transport import Transport, solve_between

MASS = 1e-6
"""The coupling has converged when the plain step moves less than this share of its mass."""
NEAR = 1e-2
"""Where the plain step moves more than this share it is taken, so that the minimum is one next to the known pairing."""
MEMORY = 8
"""Steps that L-BFGS remembers."""
ROUNDING = 1e-13
"""What float64 loses of Phi, which is of the size of a squared similarity."""
MAX_STEPS = 2000
"""Steps before giving up."""
CONVEX = 1e-8
"""The least curvature along a step, a quarter of it, of which L-BFGS learns."""
WARM_STEPS = 30
"""Newton steps from the last step's potentials, before epsilon is lowered from above again."""
RESIDUAL = 1e-9
"""Of the marginals of each step's coupling."""


def gromov_loss(student: Tensor, teacher: Tensor, *, blur: float) -> Tensor:
    """GW(S, T) - GW(S, S)/2 - GW(T, T)/2 for `student` (B, D_s) and `teacher` (B, D_t): a scalar.

    S and T are their cosine similarities, `blur` the square root of epsilon in units of similarity. 0 where the
    similarities are equal; as minima are local ones, nothing forbids a value below 0. Solved in float64; the result is
    float64 where one of the inputs is, else float32. The gradient is that of the objective at the converged couplings
    (the envelope theorem), hence right once and not to be differentiated again; none reaches the teacher.

    Raises ValueError for shapes that do not fit, numbers that are not finite or a `blur` that is not positive;
    `training.errors.NotConverged` where a coupling does not settle.

    >>> z = torch.eye(4)
    >>> abs(round(float(gromov_loss(z, 2 * z, blur=0.1)), 6))
    0.0
    """
    check_embeddings(student, teacher)
    if not (math.isfinite(blur) and blur > 0):
        raise ValueError(f"blur must be a finite number above 0, the square root of epsilon; got {blur}")
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    s, t = similarity(student.double()), similarity(teacher.detach().double())  # (B, B)
    epsilon = blur**2
    value = gromov(s, t, epsilon) - gromov(s, s, epsilon) / 2 - gromov(t, t, epsilon) / 2
    return value.to(dtype)


def gromov(c: Tensor, d: Tensor, epsilon: float) -> Tensor:
    """GW of the similarities c and d, (B, B), positive semidefinite, float64: a scalar, differentiable in both."""
    plan = gromov_coupling(c.detach(), d.detach(), epsilon)
    entropy = torch.xlogy(plan, plan * plan.numel()).sum()  # KL(P | a x b)
    return c.square().mean() + d.square().mean() - 2 * (c @ plan @ d * plan).sum() + epsilon * entropy


@torch.no_grad()
def gromov_coupling(c: Tensor, d: Tensor, epsilon: float) -> Tensor:
    """The coupling (B, B), sum 1, of similarities c and d, (B, B), at the local minimum next to the known pairing."""

    def pair(matrix: Tensor) -> Tensor:
        return torch.stack((matrix, c @ matrix @ d))

    x = pair(torch.eye(len(c), dtype=c.dtype, device=c.device) / len(c))
    plain, bound, curvature = x, math.inf, Curvature()
    solved: Transport | None = None
    for _ in range(MAX_STEPS):
        cost = -4 * x[1]
        lowest = cost.min()
        found = transport(cost - lowest, epsilon, solved)
        phi = float(2 * inner(x, x) + found.value + lowest)
        if phi > bound + ROUNDING:
            x, bound, curvature = plain, math.inf, Curvature()
            continue
        solved = found
        residual = pair(found.plan - x[0])
        moved = float(residual[0].abs().sum()) / 2
        if moved <= MASS:
            return found.plan
        plain, bound = x + residual, phi - 2 * float(inner(residual, residual))
        x = curvature.next(x, residual) if moved <= NEAR else plain
    raise NotConverged(
        f"the Gromov-Wasserstein coupling still moves {moved:.1e} of its mass a step after {MAX_STEPS} steps, "
        f"with epsilon (blur squared) {epsilon:.3g}: raise blur"
    )


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<A, B> of two pairs (2, B, B): a scalar."""
    return (a[1] * b[0]).sum()


class Curvature:
    """What the last steps have told of Phi's Hessian, and where it leads from here: L-BFGS."""

    def __init__(self) -> None:
        self.last: tuple[Tensor, Tensor] | None = None
        self.seen: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=MEMORY)
        """Steps, how much of the gradient each took away, a quarter of it, and their inner product."""
        self.scale = 1.0
        """Of the plain step: the inverse of the Hessian, a quarter of it, where nothing else is known."""

    def next(self, x: Tensor, residual: Tensor) -> Tensor:
        """The next x, a pair, from this one and its residual P(X) - X, which is minus the gradient, a quarter of it."""
        if self.last is not None:
            self.learn(x - self.last[0], self.last[1] - residual)
        self.last = (x, residual)
        direction, shares = residual, []
        for step, change, product in reversed(self.seen):
            shares.append(float(inner(step, direction)) / product)
            direction = direction - shares[-1] * change
        direction = self.scale * direction
        for (step, change, product), share in zip(self.seen, reversed(shares), strict=True):
            direction = direction + (share - float(inner(change, direction)) / product) * step
        return x + direction / max(1.0, float(direction[0].abs().sum()) / 2)  # two couplings differ by a mass of 1

    def learn(self, step: Tensor, change: Tensor) -> None:
        """Keep a step along which Phi is convex; where it is concave, a saddle is left, and faster by longer steps."""
        product = float(inner(step, change))
        if product > CONVEX * float(inner(step, step)):
            self.seen.append((step, change, product))
            self.scale = max(1.0, product / float(inner(change, change)))
        else:
            self.seen.clear()
            self.scale *= 2


def transport(cost: Tensor, epsilon: float, last: Transport | None) -> Transport:
    """Entropic OT with costs (B, B), from the last step's solution, or from the start where that leads nowhere."""
    if last is not None:
        try:
            return solve_between(cost, epsilon, RESIDUAL, start=last, max_steps=WARM_STEPS)
        except NotConverged:
            pass
    return solve_between(cost, epsilon, RESIDUAL)
