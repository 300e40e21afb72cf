"""Entropic Gromov-Wasserstein: are the student's samples similar to each other as the teacher's are, whoever is whom?

GW(C, D) = min_P sum_ijkl (C_ik - D_jl)^2 P_ij P_kl + epsilon KL(P | a x b) over the couplings P of two uniform weights:
Peyre, Cuturi and Solomon, "Gromov-Wasserstein averaging of kernel and distance matrices", ICML 2016. C and D are the
cosine similarities of the batch. Debiased as the OT divergence is, with GW(C, C) and GW(D, D), so that a copy of the
teacher costs nothing: Bunne et al., ICML 2019 (arXiv 1905.05461).

How it is solved. With its marginals fixed the sum is |C|^2/n^2 + |D|^2/n^2 - 2 <C P D, P>, and similarities of cosines
are positive semidefinite, so the last term is concave in P. Its tangent lies above it: each step solves entropic OT
with the costs -4 C P D, and never raises the objective (Yuille and Rangarajan, "The concave-convex procedure", 2003).
The minimum that it finds is a local one, near the pairing that is known, P = I/n, where it begins. (From P = a x b, the
other usual start, it would not move at all for centred features: that is a saddle.)

Axes: B samples, D features.
"""

import math

import torch
from torch import Tensor

from training.losses.ot import check_embeddings, similarity
from training.losses.transport import NotConverged, Transport, solve_between

MASS = 1e-6
"""The coupling has converged when a step moves less than this share of its mass."""
MAX_STEPS = 2000
"""Steps before giving up. Batches of 128 were seen to need about 100, seldom 400."""
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
    `training.losses.transport.NotConverged` where a coupling does not settle.

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
    solved: Transport | None = None
    plan = torch.eye(len(c), dtype=c.dtype, device=c.device) / len(c)
    for _ in range(MAX_STEPS):
        gain = 4 * c @ plan @ d
        solved = transport(gain.max() - gain, epsilon, solved)
        moved = float((solved.plan - plan).abs().sum()) / 2
        plan = solved.plan
        if moved <= MASS:
            return plan
    raise NotConverged(
        f"the Gromov-Wasserstein coupling still moves {moved:.1e} of its mass a step after {MAX_STEPS} steps, "
        f"with epsilon (blur squared) {epsilon:.3g}: raise blur"
    )


def transport(cost: Tensor, epsilon: float, last: Transport | None) -> Transport:
    """Entropic OT with costs (B, B), from the last step's solution, or from the start where that leads nowhere."""
    if last is not None:
        try:
            return solve_between(cost, epsilon, RESIDUAL, start=last, max_steps=WARM_STEPS)
        except NotConverged:
            pass
    return solve_between(cost, epsilon, RESIDUAL)
