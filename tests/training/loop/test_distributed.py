"""Two ranks compute what one process computes: the loss of the global batch, and the gradients of every parameter.

`torchrun` runs this file itself as the worker of both ranks.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from training.config import load_config
from training.data.contents import Contents
from training.data.window_set import Batch, WindowSet
from training.loop.distributed import average_gradients, gather_with_gradient, is_first_rank, joined_ranks, local_part
from training.loop.loop import Bench, fit
from training.losses.ot import structural_ot
from training.losses.task import ccc_loss
from training.run_folder import RunFolder
from training.stage_config import StageConfig

RECIPE = Path(__file__).parents[3] / "training" / "configs" / "synthetic-pain.yaml"
BATCH = 15  # no multiple of the ranks
DTYPES = (torch.float32, torch.float64)
LIKES_THE_FIRST, LIKES_THE_SECOND = (0.0, 1.0), (1.0, 0.0)
"""Selection scores of two epochs."""


class Net(nn.Module):
    """A linear student, and a layer that no loss sees."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.joint = nn.Linear(6, 5, dtype=dtype)
        self.head = nn.Linear(5, 2, dtype=dtype)
        self.unused = nn.Linear(2, 2, dtype=dtype)


def problem(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, the teacher's z, and targets of the whole batch."""
    generator = torch.Generator().manual_seed(2)
    x, teacher, targets = (torch.randn(BATCH, width, generator=generator).to(dtype) for width in (6, 4, 2))
    return x, teacher, targets


def take_step(dtype: torch.dtype) -> dict[str, Tensor]:
    """The loss and the gradients, from this rank's part of the batch."""
    net, (x, teacher, targets) = Net(dtype), problem(dtype)
    part = local_part(BATCH)
    z = net.joint(x[part])
    z, output = gather_with_gradient(z), gather_with_gradient(net.head(z))
    teacher, targets = gather_with_gradient(teacher[part]), gather_with_gradient(targets[part])
    loss = structural_ot(z, teacher, k=5, pair_cost=0.1) + ccc_loss(output, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(net.parameters())
    return {"loss": loss.detach()} | {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def work(folder: Path) -> None:
    """What each rank does and writes down."""
    with joined_ranks():
        found = find() | {"contents": claim(folder / "run")}
        found |= {"whole": train_noisily(folder / "whole"), "resumed": train_noisily(folder / "resumed", stopped=True)}
        torch.save(found, folder / f"{found['rank']}.pt")


def find() -> dict[str, Any]:
    """What this rank finds."""
    rank = distributed.get_rank()
    found: dict[str, Any] = {str(dtype): take_step(dtype) for dtype in DTYPES}
    found["order"] = gather_with_gradient(torch.arange(3 * rank, 3 * rank + 2 + rank))
    found["flags"] = gather_with_gradient(torch.tensor([rank == 1]))
    only_here = nn.Parameter(torch.zeros(2))
    if rank == 1:
        only_here.grad = torch.tensor([3.0, 4.0])
    average_gradients([only_here])
    found["only on rank 1"] = only_here.grad
    found["first"] = is_first_rank()
    found["trained"] = train()
    found["chosen"] = train(LIKES_THE_FIRST if rank else LIKES_THE_SECOND)
    return found | {"rank": rank}


def claim(run: Path) -> Contents | None:
    """What the second rank, which comes late, finds in the folder of a run that both have begun."""
    if distributed.get_rank() == 1:
        time.sleep(0.5)
    folder = RunFolder(run)
    folder.begin(load_config(RECIPE), {"labels": "1"}, resume=False)
    return folder.contents()


def train(scores: Sequence[float] = (0.0, 0.0)) -> dict[str, Tensor]:
    """The weights of the better of two epochs of `fit`, which have these scores, each batch shared by the ranks."""
    net, (x, _, targets) = Net(torch.float32), problem(torch.float32)
    n = torch.arange(BATCH)
    windows = WindowSet({"x": x}, n, {}, targets, n % 5, n, torch.zeros(BATCH, 2), tuple("abcde"))

    def step(batch: Batch, *_: object) -> Tensor:
        return ccc_loss(gather_with_gradient(net.head(net.joint(batch.tensors["x"]))), batch.targets)

    config = StageConfig(epochs=2, batch=7, learning_rate=0.01)
    of_epoch = iter(scores)
    fit(net, net.parameters(), step, lambda: next(of_epoch), windows, config, Bench(seed=1, label="ranks"))
    return dict(net.state_dict())


class StoppedError(RuntimeError):
    """Takes the place of a kill."""


def train_noisily(state_file: Path, *, stopped: bool = False) -> dict[str, Tensor]:
    """The weights after three epochs with dropout and noise; if `stopped`, a run is ended on its way and goes on."""
    torch.manual_seed(1)
    net, (x, _, targets) = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2)), problem(torch.float32)
    start, n, steps = net[0].weight.detach().clone(), torch.arange(BATCH), iter(range(4 if stopped else 100))
    windows = WindowSet({"x": x}, n, {}, targets, n % 5, n, torch.zeros(BATCH, 2), tuple("abcde"))

    def step(batch: Batch, noise: torch.Generator, _: float) -> Tensor:
        if next(steps, None) is None:
            raise StoppedError
        given = batch.tensors["x"] + torch.randn(batch.tensors["x"].shape, generator=noise)
        return (gather_with_gradient(net(given)) - batch.targets).square().mean()

    bench = Bench(seed=1, label="noisy", state_file=state_file, save_every_s=0.0)
    config = StageConfig(epochs=3, batch=5, learning_rate=0.01)
    try:
        fit(net, net.parameters(), step, lambda: -float((net[0].weight - start).norm()), windows, config, bench)
    except StoppedError:
        distributed.barrier()  # all have stopped before one goes on
        return train_noisily(state_file)
    return dict(net.state_dict())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, __file__, folder], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_ranks_have_the_loss_and_the_gradients_of_one(dtype: torch.dtype, ranks: list[dict[str, Any]]) -> None:
    alone = take_step(dtype)

    for rank in ranks:
        found = rank[str(dtype)]
        assert found.keys() == alone.keys()  # the unused layer has no gradient in either
        for name, expected in alone.items():
            assert (found[name] - expected).norm() <= 1e-6 * expected.norm(), name


def test_two_ranks_train_as_one(ranks: list[dict[str, Any]]) -> None:
    alone = train()

    for rank in ranks:
        for name, expected in alone.items():
            assert torch.allclose(rank["trained"][name], expected, atol=1e-6), name


def test_all_ranks_keep_the_epoch_that_the_first_likes_best(ranks: list[dict[str, Any]]) -> None:
    liked = train(LIKES_THE_SECOND)

    for rank in ranks:
        for name, expected in liked.items():
            assert torch.allclose(rank["chosen"][name], expected, atol=1e-6), name
    assert not torch.allclose(liked["head.weight"], train(LIKES_THE_FIRST)["head.weight"], atol=1e-3)


def test_ranks_that_were_stopped_go_on_with_their_own_random_numbers(ranks: list[dict[str, Any]]) -> None:
    whole, resumed = ranks[0]["whole"], ranks[0]["resumed"]

    assert {name: torch.equal(resumed[name], values) for name, values in whole.items()} == dict.fromkeys(whole, True)
    assert all(torch.equal(ranks[1]["resumed"][name], values) for name, values in resumed.items())


def test_rows_come_in_rank_order_whatever_their_number_and_type(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert torch.equal(rank["order"], torch.tensor([0, 1, 3, 4, 5]))
        assert torch.equal(rank["flags"], torch.tensor([False, True]))


def test_a_parameter_that_one_rank_used_gets_the_mean_with_zero(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert torch.equal(rank["only on rank 1"], torch.tensor([1.5, 2.0]))


def test_a_rank_that_comes_late_does_not_take_the_run_for_an_earlier_one(ranks: list[dict[str, Any]]) -> None:
    assert [rank["contents"] for rank in ranks] == [{"labels": "1"}] * 2


def test_one_rank_writes_files(ranks: list[dict[str, Any]]) -> None:
    assert [rank["first"] for rank in ranks] == [True, False]


def test_alone_nothing_is_gathered_averaged_or_divided() -> None:
    rows = torch.ones(3, 2)
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, 2.0])

    average_gradients([weight])

    assert gather_with_gradient(rows) is rows
    assert weight.grad.tolist() == [1.0, 2.0]
    assert rows[local_part(3)].shape == (3, 2)
    assert is_first_rank()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
