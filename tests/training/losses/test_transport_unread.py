"""What an accelerator's tensors get: the same solutions, and hardly a number that the host reads on the way."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.errors import NotConverged
from training.losses.ot import profiles, similarity, structural_ot
from training.losses.sinkhorn import half_squared_distances, sinkhorn_divergence
from training.losses.transport import RowPlan, climb, reads_are_free, share_at_once, solve_between, solve_within


def clusters(n: int, d: int, seed: int) -> torch.Tensor:
    """A cloud in [0, 2], in a few clusters that no other cloud has."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.rand(4, d, generator=generator, dtype=torch.float64)
    which = torch.randint(0, 4, (n,), generator=generator)
    return (centres[which] + 0.3 * torch.randn(n, d, generator=generator, dtype=torch.float64)).clamp(0, 2)


class Reads(TorchDispatchMode):
    """Counts how often the host waits for a number: float(), int(), bool(), an index that is a tensor, and the like."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        waits = torch.ops.aten._local_scalar_dense, torch.ops.aten.equal, torch.ops.aten.nonzero
        self.count += func.overloadpacket in waits
        return func(*args, **(kwargs or {}))


def reads_of(solve: Callable[[], object]) -> int:
    with Reads() as reads:
        solve()
    return reads.count


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an accelerator's tensors get."""
    monkeypatch.setattr("training.losses.transport.reads_are_free", lambda _: False)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize(("batch", "k"), [(16, 4), (64, 15), (128, 30), (256, 60), (512, 120)])
def test_an_accelerator_is_read_twice_for_every_ordinary_problem_whatever_its_size(
    embeddings: Callable[..., Any], batch: int, k: int
) -> None:
    student, teacher = (torch.from_numpy(z) for z in embeddings(batch, collapse=0.4, dim=32))
    x, y = profiles(similarity(student), similarity(teacher), k=k, anchors="farthest", normalise=False)
    between, within = half_squared_distances(x, y), half_squared_distances(x, x)

    assert reads_of(lambda: solve_between(between, 0.01, 1e-9)) == 2
    assert reads_of(lambda: solve_within(within, 0.01, 1e-8)) == 2
    # the three problems, and before them: is x finite, is y, the mean cost, the largest
    assert reads_of(lambda: sinkhorn_divergence(x.float(), y.float(), blur=0.1)) == 4 + 3 * 2
    assert reads_of(lambda: structural_ot(student, teacher, k=k)) == 2 + 4 + 3 * 2


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("blur", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(("n", "d"), [(64, 15), (128, 30), (256, 60), (256, 256)])
def test_it_is_hardly_read_more_often_for_hard_problems(n: int, d: int, blur: float) -> None:
    x, y = clusters(n, d, seed=3), clusters(n, d, seed=4)

    assert reads_of(lambda: solve_between(half_squared_distances(x, y), blur**2, 1e-9)) <= 4
    assert reads_of(lambda: solve_within(half_squared_distances(x, x), blur**2, 1e-8)) == 2


@pytest.mark.usefixtures("accelerator")
def test_more_reads_are_for_many_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(40, 8, seed=12), clusters(40, 8, seed=13)
    between, within = half_squared_distances(x, y), half_squared_distances(x, x)
    monkeypatch.setattr("training.losses.transport.rounding_limit", lambda *_: 0.0)

    def never(solve: Callable[..., object], cost: torch.Tensor, steps: int) -> int:
        def run() -> None:
            with pytest.raises(NotConverged, match=f"stopped after {steps} steps"):
                solve(cost, 0.01, 0.0, max_steps=steps)

        return reads_of(run)

    # the largest cost at first, and once more for the message; the residual after 4, 8, 16, 32, 64, 128, 256 and 300
    assert [never(solve_between, between, steps) for steps in (0, 4, 5, 300)] == [3, 3, 4, 10]
    assert [never(solve_within, within, steps) for steps in (0, 24, 25, 300)] == [2, 2, 3, 14]


@pytest.mark.parametrize("blur", [0.01, 0.1, 1.0])
@pytest.mark.parametrize(("n", "m", "d"), [(64, 64, 15), (100, 30, 10), (128, 128, 128), (2, 2, 1)])
def test_an_accelerator_finds_the_same_solution(
    request: pytest.FixtureRequest, n: int, m: int, d: int, blur: float
) -> None:
    x, y = clusters(n, d, seed=1), clusters(m, d, seed=2)
    between, within = half_squared_distances(x, y), half_squared_distances(x, x)
    free = solve_between(between, blur**2, 1e-11), solve_within(within, blur**2, 1e-11)

    request.getfixturevalue("accelerator")
    unread = solve_between(between, blur**2, 1e-11), solve_within(within, blur**2, 1e-11)

    for own, other in zip(free, unread, strict=True):
        torch.testing.assert_close(own.plan, other.plan, rtol=0, atol=1e-9)
        torch.testing.assert_close(own.value, other.value, rtol=1e-9, atol=1e-12)


def test_nothing_can_be_read_on_the_way_where_tensors_hold_no_numbers() -> None:
    cost = torch.empty(12, 8, dtype=torch.float64, device="meta")

    g = climb(RowPlan(cost), cost.new_zeros(8), 0.01, steps=3)

    assert (g.shape, g.device.type) == ((8,), "meta")


def test_the_host_looks_at_its_own_numbers_only() -> None:
    assert [reads_are_free(torch.device(name)) for name in ("cpu", "cuda", "mps", "meta")] == [
        True,
        False,
        False,
        False,
    ]


def test_of_all_shares_of_a_step_the_largest_that_gains_enough_is_taken() -> None:
    rows, excess = torch.tensor([[0.2, 0.8]]).double(), torch.tensor([-0.3, 0.3]).double()
    # the gain of (u, -u) is -log(e^u / 5 + 4 / 5 e^-u): .22 at u = log 2, where it is largest, and 0 at u = log 4
    far, best, too_far = (u * math.log(2) * torch.tensor([1.0, -1.0]).double() for u in (8, 1, 32))

    shares = [float(share_at_once(rows, excess, step)) for step in (far, best, too_far)]

    # of `far`, 1/4 gains nothing; `too_far` is cut to 20 at first, of which 1/16 is enough
    assert shares == pytest.approx([1 / 16, 1.0, 20 / (32 * math.log(2)) / 16])
    assert float(share_at_once(rows, excess, torch.zeros(2).double())) == 1.0  # at the maximum all is rounding


def test_a_step_whose_factorisation_fails_is_not_taken_and_the_next_has_a_larger_ridge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cost = half_squared_distances(clusters(20, 5, seed=1), clusters(20, 5, seed=2))
    start, factorise, diagonals = cost.new_zeros(20), torch.linalg.cholesky_ex, []

    def fail_at_first(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        diagonals.append(matrix.diagonal().clone())
        factor, info = factorise(matrix)
        return (factor * torch.nan, info + 1) if len(diagonals) == 1 else (factor, info)

    after_one = climb(RowPlan(cost), start, 0.1, steps=1)
    monkeypatch.setattr("torch.linalg.cholesky_ex", fail_at_first)
    after_a_failure = climb(RowPlan(cost), start, 0.1, steps=1)
    monkeypatch.undo()
    diagonals.clear()
    monkeypatch.setattr("torch.linalg.cholesky_ex", fail_at_first)
    after_another_step = climb(RowPlan(cost), start, 0.1, steps=2)

    assert torch.equal(after_a_failure, start)
    torch.testing.assert_close(diagonals[1] - diagonals[0], torch.full_like(start, 99e-13), rtol=0.02, atol=0)
    torch.testing.assert_close(after_another_step, after_one, rtol=1e-5, atol=1e-8)
    assert float(after_one.abs().max()) > 0.01
