"""Entropic Gromov-Wasserstein: against POT, against closed forms, and where its gradient may go."""

import numpy as np
import ot
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import NotConverged
from training.losses.gromov import gromov_coupling, gromov_loss
from training.losses.ot import centred, similarity
from training.losses.transport import solve_between

Floats = NDArray[np.float64]


def clouds(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return teacher[:, :3] + 0.7 * noise, teacher


def pot_coupling(c: Floats, d: Floats, epsilon: float) -> Floats:
    """From the known pairing, as ours. POT warns where its inner loop stops short; the comparison says by how much."""
    n = len(c)
    plan: Floats = ot.gromov.entropic_gromov_wasserstein(
        c, d, ot.unif(n), ot.unif(n), "square_loss", epsilon, G0=np.eye(n) / n, max_iter=200, tol=1e-8,
        numItermax=3000, stopThr=1e-10, warn=False,
    )  # fmt: skip
    return plan


def pot_value(c: Floats, d: Floats, epsilon: float) -> float:
    plan = pot_coupling(c, d, epsilon)
    squares = (c[:, None, :, None] - d[None, :, None, :]) ** 2  # at [i, j, k, l]: (c_ik - d_jl)^2
    loss = float(np.einsum("ijkl,ij,kl->", squares, plan, plan))
    positive = plan[plan > 0]
    return loss + epsilon * float((positive * np.log(positive * plan.size)).sum())


@pytest.mark.parametrize("blur", [0.3, 1.0])
@pytest.mark.parametrize("n", [3, 12])
def test_the_coupling_is_pots(n: int, blur: float) -> None:
    c, d = (similarity(z) for z in clouds(n))

    plan = gromov_coupling(c, d, blur**2)

    np.testing.assert_allclose(plan.numpy(), pot_coupling(c.numpy(), d.numpy(), blur**2), rtol=0, atol=1e-4 / n)


@pytest.mark.parametrize("blur", [0.3, 1.0])
@pytest.mark.parametrize("n", [3, 12])
def test_the_value_is_the_debiased_objective_at_pots_couplings(n: int, blur: float) -> None:
    student, teacher = clouds(n, seed=1)

    value = float(gromov_loss(student, teacher, blur=blur))

    c, d = (similarity(z).numpy() for z in (student, teacher))
    between, within = pot_value(c, d, blur**2), (pot_value(c, c, blur**2), pot_value(d, d, blur**2))
    assert value == pytest.approx(between - sum(within) / 2, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("blur", [0.1, 0.3])
def test_the_gradient_is_that_of_finite_differences(blur: float) -> None:
    student, teacher = clouds(6, seed=2)
    student.requires_grad_(True)

    def loss(z: Tensor) -> Tensor:
        return gromov_loss(z, teacher, blur=blur)

    assert torch.autograd.gradcheck(loss, (student,), atol=1e-5, rtol=1e-3, fast_mode=True)


def test_a_tiny_blur_leaves_the_known_pairing_and_the_squared_difference_of_similarities() -> None:
    student, teacher = clouds(8, seed=3)

    value = float(gromov_loss(teacher[:, :3] + 0.01 * student, teacher[:, :3], blur=0.01))

    difference = similarity(teacher[:, :3] + 0.01 * student) - similarity(teacher[:, :3])
    assert value == pytest.approx(float(difference.square().mean()), rel=1e-4)


@pytest.mark.parametrize("blur", [0.05, 0.3])
def test_turned_and_scaled_features_have_the_same_structure(blur: float) -> None:
    teacher = clouds(10)[1]
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    student = (2 * teacher @ turn).requires_grad_(True)

    value = gromov_loss(student, teacher, blur=blur)
    value.backward()

    assert abs(value.item()) <= 1e-8
    assert student.grad is not None
    assert student.grad.abs().max() <= 1e-6


def test_centred_features_are_no_trap() -> None:
    """From the product of the weights the descent could not leave: all mean similarities are 0 there."""
    student, teacher = (torch.nn.functional.normalize(z) for z in clouds(12, seed=4))
    for _ in range(200):
        student, teacher = (torch.nn.functional.normalize(centred(z)) for z in (student, teacher))

    plan = gromov_coupling(similarity(student), similarity(teacher), 0.1**2)

    assert float(plan.diagonal().sum()) > 3 / 12


def stimuli(times: int) -> tuple[Tensor, Tensor]:
    """32 people's similarities, six stimuli being all that the teacher sees; each sample is there `times` times."""
    generator = torch.Generator().manual_seed(1)
    seen = torch.randn(6, 8, generator=generator, dtype=torch.float64).relu()[torch.arange(32) % 6]
    student = seen + torch.randn(32, 8, generator=generator, dtype=torch.float64)
    c, d = (similarity(z.repeat_interleave(times, 0)) for z in (student, seen))
    return c, d


def test_identical_samples_next_to_a_saddle_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """At this epsilon a minimum has just vanished, and plain steps need 1600 to pass the place where it was."""
    monkeypatch.setattr("training.losses.gromov.MAX_STEPS", 300)
    (c, d), epsilon = stimuli(times=1), 0.137

    plan = gromov_coupling(c, d, epsilon)

    gain = 4 * c @ plan @ d
    again = solve_between(gain.max() - gain, epsilon, 1e-9).plan
    assert float((again - plan).abs().sum()) / 2 <= 2e-6
    repeated = gromov_coupling(*stimuli(times=4), epsilon)  # 128 samples: four of each are one, four times as heavy
    torch.testing.assert_close(repeated, torch.kron(plan, plan.new_full((4, 4), 1 / 16)), rtol=0, atol=1e-5)


def test_not_settling_is_an_error_with_what_still_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.losses.gromov.MAX_STEPS", 3)

    with pytest.raises(NotConverged, match=r"still moves .* of its mass a step after 3 steps.*: raise blur"):
        gromov_coupling(*stimuli(times=1), 0.137)


def test_only_the_student_learns_and_half_precision_is_read_as_single() -> None:
    student, teacher = (z.bfloat16().requires_grad_(True) for z in clouds(8))

    value = gromov_loss(student, teacher, blur=0.1)
    value.backward()

    assert value.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_bad_input_is_said() -> None:
    with pytest.raises(ValueError, match="of one batch"):
        gromov_loss(torch.ones(4, 2), torch.ones(5, 2), blur=0.1)
    with pytest.raises(ValueError, match="blur must be a finite number above 0"):
        gromov_loss(torch.ones(4, 2), torch.ones(4, 2), blur=0.0)
