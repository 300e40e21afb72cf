"""Corpora of kind `features`: one .npz or .parquet file, or a folder that holds features.npz or features.parquet.

docs/corpora.md has both layouts. `read_features` stops at the first problem, `check_features` lists them all.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpora.clip import CorpusError, is_synthetic
from training.corpora.feature_corpus import FeatureCorpus, find_problems, from_arrays, to_arrays
from training.corpora.feature_report import report
from training.corpora.feature_table import read_table, write_table

NPZ: Final = ".npz"
PARQUET: Final = ".parquet"
STEM: Final = "features"


def read_features(path: Path) -> FeatureCorpus:
    """The corpus in the file, or in the folder's features.npz or features.parquet.

    Raises CorpusError, in one sentence that names the file and the key, for the first thing that is not as expected.
    """
    file = find_file(path)
    return from_arrays(_arrays(file), file.name, file.stem, synthetic=is_synthetic(file.parent))


def check_features(path: Path) -> list[str]:
    """Sentences on the corpus: problems ("problem: ...") and leaks, then counts by split, class, modality and person.

    Raises CorpusError where there is no such file, or it cannot be opened at all.
    """
    file = find_file(path)
    arrays = _arrays(file)
    if problems := find_problems(arrays, file.name):
        return [f"problem: {problem}" for problem in problems]
    return report(from_arrays(arrays, file.name, file.stem, synthetic=is_synthetic(file.parent)))


def write_features(path: Path, corpus: FeatureCorpus) -> None:
    """Write `corpus` as .npz or .parquet, by the name's end: beside its place, then renamed.

    Raises CorpusError for another end of the name, and for a corpus that `read_features` would refuse.
    """
    arrays = to_arrays(corpus)
    if problems := find_problems(arrays, path.name):
        raise CorpusError(problems[0])
    if path.suffix not in WRITERS:
        raise CorpusError(f"{path.name} cannot be written: expected a name that ends in .npz or .parquet.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        WRITERS[path.suffix](part, arrays)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def find_file(path: Path) -> Path:
    """The one feature file that `path` means; CorpusError where there is none, or two."""
    if path.is_dir():
        there = [path / f"{STEM}{suffix}" for suffix in WRITERS if (path / f"{STEM}{suffix}").is_file()]
        if len(there) != 1:
            what = "both features.npz and features.parquet" if there else "neither features.npz nor features.parquet"
            raise CorpusError(f"{path} holds {what}: expected one of them, or the path of a file.")
        return there[0]
    if path.suffix not in WRITERS or not path.is_file():
        raise CorpusError(f"{path} is not there, or no .npz or .parquet: expected a feature file, or its folder.")
    return path


def _arrays(file: Path) -> dict[str, NDArray[np.generic]]:
    return read_npz(file) if file.suffix == NPZ else read_table(file)


def read_npz(file: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays of the file; CorpusError where it is damaged or holds pickled objects."""
    if not zipfile.is_zipfile(file):
        raise CorpusError(f"{file.name} is cut short or no npz file: expected what numpy.savez writes.")
    arrays: dict[str, NDArray[np.generic]] = {}
    with np.load(file, allow_pickle=False) as stored:
        for key in stored.files:
            try:
                arrays[key] = stored[key]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                raise CorpusError(
                    f"{file.name}: {key} cannot be read ({error}): expected an array of numbers or text, no objects."
                ) from error
            if not isinstance(arrays[key], np.ndarray):
                raise CorpusError(f"{file.name}: {key} is no array: expected what numpy.savez writes.")
    return arrays


def _write_npz(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


WRITERS: Final[dict[str, Callable[[Path, dict[str, NDArray[np.generic]]], None]]] = {
    NPZ: _write_npz,
    PARQUET: write_table,
}
