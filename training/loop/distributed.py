"""Data-parallel training: a loss over the global batch, and gradients that come out as one process's would.

Every rank computes the same loss of the same gathered batch, and differentiates it for its own samples. The backward
pass of the gathering adds up over the N ranks what each has found for a sample, which is N times the same gradient;
averaged over ranks, the parameters' gradients are therefore those of the loss of one process on the whole batch. The
same holds for a loss that each rank takes of its own samples alone, if the total is meant to be the ranks' mean.

Without an initialised `torch.distributed` there is one rank: nothing is gathered, averaged or divided.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """The rows of all ranks in rank order, (B_1 + ... + B_N, ...), from this rank's (B_r, ...); any dtype.

    Differentiable. Ranks may hold different numbers of rows, but all must call this with the same other axes.
    """
    if not is_parallel():
        return tensor
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks; all ranks must name the same parameters in the same order.

    A rank without a gradient for a parameter counts as 0. A parameter without one on any rank keeps none, as an
    optimiser does not touch those.
    """
    if not is_parallel():
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    used = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
    distributed.all_reduce(used, distributed.ReduceOp.MAX)
    trained = [p for p, anywhere in zip(trained, used.tolist(), strict=True) if anywhere]
    if not trained:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, mean in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
        p.grad = mean.view_as(p).to(p.dtype).clone()


@contextmanager
def joined_ranks() -> Iterator[None]:
    """Join the ranks that `torchrun` has started until the end: over NCCL where each has a GPU, elsewhere over gloo."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    device = world_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_device() -> torch.device:
    """Where this process computes: a GPU of its own under `torchrun`, the only one, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def is_parallel() -> bool:
    """Whether there are other ranks to talk to."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if is_parallel() else 0


def is_first_rank() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def of_all_ranks(value: T) -> list[T]:
    """What each rank gives, in rank order: anything that can be pickled. All ranks must call this."""
    if not is_parallel():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def first_says(answer: bool) -> bool:
    """The first rank's answer, on every rank, where theirs may differ. All ranks must call this."""
    if not is_parallel():
        return answer
    said = torch.tensor(int(answer), device=world_device())
    distributed.broadcast(said, 0)
    return bool(said)


def wait_for_all() -> None:
    """Until every rank is here: what the first has written is there for all."""
    if is_parallel():
        distributed.barrier()


def local_part(rows: int) -> slice:
    """This rank's share of a batch's rows: one piece, in rank order, and no rank has two rows more than another."""
    if not is_parallel():
        return slice(rows)
    ranks, own = distributed.get_world_size(), distributed.get_rank()
    return slice(rows * own // ranks, rows * (own + 1) // ranks)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ranks, own = distributed.get_world_size(), distributed.get_rank()
        lengths = torch.zeros(ranks, dtype=torch.int64, device=tensor.device)
        lengths[own] = len(tensor)
        distributed.all_reduce(lengths)
        rows = lengths.tolist()
        padded = tensor.new_zeros(max(rows), *tensor.shape[1:])  # ranks can only exchange equal shapes
        padded[: len(tensor)] = tensor
        received = [torch.empty_like(padded) for _ in range(ranks)]
        distributed.all_gather(received, padded)
        ctx.own = slice(sum(rows[:own]), sum(rows[: own + 1]))
        return torch.cat([part[:n] for part, n in zip(received, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()  # (B, ...): all ranks' samples, as this rank's loss sees them
        distributed.all_reduce(grad)
        return grad[ctx.own]
