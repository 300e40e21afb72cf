"""Several processes of one run, as `torchrun` starts them: who is first, whose part of a batch is whose.

Without `torchrun` there is one rank, which is the first and has everything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from training.config import ConfigError


@contextmanager
def joined_ranks() -> Iterator[None]:
    """Join the ranks that `torchrun` has started, over NCCL where each has a GPU and gloo elsewhere, until the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if _joined() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _joined() else 1


def is_first_rank() -> bool:
    """Whether this process writes what only one may write."""
    return rank() == 0


def wait_for_all() -> None:
    """Until every rank is here: what the first has written is there for all."""
    if world() > 1:
        distributed.barrier()


def local_part(size: int) -> slice:
    """This rank's part of a batch; ConfigError where `size` cannot be divided."""
    if size % world():
        raise ConfigError(f"a batch of {size} cannot be divided among {world()} processes; take a multiple")
    share = size // world()
    return slice(rank() * share, (rank() + 1) * share)


def world_device() -> torch.device:
    """Where this process computes: its own GPU under `torchrun`, the only one elsewhere, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
