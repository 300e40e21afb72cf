"""Memory that parent and child share: a count of the child's progress, and slots that pixels and samples go through."""

import fcntl
import mmap
import os
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

SLOTS: Final = 3
"""The child may be so many pieces ahead."""
MIN_SLOT_BYTES: Final = 1 << 20
HEAD_BYTES: Final = mmap.ALLOCATIONGRANULARITY


class Ring:
    """One mapping of it. Only pages that were written to take memory."""

    def __init__(self, descriptor: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self.memory = mmap.mmap(descriptor, HEAD_BYTES + SLOTS * slot_bytes)
        self.head = memoryview(self.memory)[:HEAD_BYTES].cast("Q")

    @classmethod
    def create(cls, slot_bytes: int) -> tuple[Self, int]:
        """A ring, and the descriptor to hand on. Nobody can shrink it, so no access faults. Raises OSError."""
        descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, HEAD_BYTES + SLOTS * slot_bytes)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(descriptor, slot_bytes), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def progress(self) -> int:
        """A number that changes while the child gets on."""
        return self.head[0]

    def advance(self) -> None:
        self.head[0] += 1

    def write(self, slot: int, array: NDArray[np.generic]) -> None:
        """Copy an array in, from the slot's beginning on."""
        there = np.frombuffer(self.memory, np.uint8, array.nbytes, HEAD_BYTES + slot * self.slot_bytes)
        there[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def read(self, slot: int, count: int, dtype: type[T]) -> NDArray[T]:
        """Copy `count` numbers out: what the other side does to the memory later changes nothing."""
        return np.frombuffer(self.memory, dtype, count, HEAD_BYTES + slot * self.slot_bytes).copy()

    def close(self) -> None:
        self.head.release()
        self.memory.close()


def slot_bytes_for(max_pixels: int) -> int:
    """Room for one picture in RGB, in whole pages."""
    needed = max(3 * max_pixels, MIN_SLOT_BYTES)
    return -(-needed // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
