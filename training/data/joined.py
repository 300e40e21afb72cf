"""The prepared windows of all clips as one array a modality, on disk: a corpus may be larger than memory.

An array is written once, keyed by the clips' own keys, beside its place and renamed; then it is memory-mapped, so that
only what a batch reads is loaded, and the system may drop it again.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from training.files.replacing import whole_file


def joined(files: Sequence[Path], name: str, folder: Path) -> Tensor:
    """The arrays `name` of the npz `files`, one after the other: (M, ...), memory-mapped."""
    key = hashlib.sha256("\n".join([name, *(file.stem for file in files)]).encode()).hexdigest()[:32]
    return kept_array(folder / f"{key}.npy", lambda part: _write(files, name, part))


def kept_array(file: Path, write: Callable[[Path], None]) -> Tensor:
    """The array in `file`, memory-mapped; where it is not there, `write` makes it first, by one process alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            with whole_file(file) as part:
                write(part)
    return torch.from_numpy(np.load(file, mmap_mode="c"))  # copy on write: torch wants to be allowed to write


def small(files: Sequence[Path], name: str) -> list[NDArray[np.generic]]:
    """The array `name` of each file, in memory: for times and flags."""
    return [_read(file, name) for file in files]


def _read(file: Path, name: str) -> NDArray[np.generic]:
    with np.load(file, allow_pickle=False) as arrays:
        values: NDArray[np.generic] = arrays[name]
    return values


def _write(files: Sequence[Path], name: str, part: Path) -> None:
    counts = [len(_read(file, "spans_s")) for file in files]
    first = _read(files[0], name)
    out = np.lib.format.open_memmap(part, mode="w+", dtype=first.dtype, shape=(sum(counts), *first.shape[1:]))
    at = 0
    for file, count in zip(files, counts, strict=True):
        out[at : at + count] = _read(file, name)
        at += count
    out.flush()
