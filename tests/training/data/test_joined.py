"""A corpus on disk: joined once, read where it is needed, and the same as in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.joined import joined, small


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three clips of 2, 0 and 3 windows."""
    made = []
    for number, windows in enumerate((2, 0, 3)):
        made.append(tmp_path / f"clip{number}.npz")
        eda = np.arange(windows * 4, dtype=np.float32).reshape(windows, 4) + 100 * number
        np.savez(made[-1], spans_s=np.zeros((windows, 2)), eda=eda)
    return made


def test_clips_stand_one_after_the_other_and_are_joined_once(files: list[Path], tmp_path: Path) -> None:
    first = joined(files, "eda", tmp_path / "joined")
    (file,) = (tmp_path / "joined").glob("*.npy")
    written = file.stat().st_mtime_ns

    second = joined(files, "eda", tmp_path / "joined")

    assert first[:, 0].tolist() == [0.0, 4.0, 200.0, 204.0, 208.0]
    assert torch.equal(first, second)
    assert file.stat().st_mtime_ns == written
    assert not list((tmp_path / "joined").glob("*.part"))


def test_another_set_of_clips_is_another_file(files: list[Path], tmp_path: Path) -> None:
    joined(files, "eda", tmp_path / "joined")

    fewer = joined(files[:1], "eda", tmp_path / "joined")

    assert len(fewer) == 2
    assert len(list((tmp_path / "joined").glob("*.npy"))) == 2


def test_what_is_changed_in_memory_stays_there(files: list[Path], tmp_path: Path) -> None:
    first = joined(files, "eda", tmp_path / "joined")
    first[0] = -1

    assert joined(files, "eda", tmp_path / "joined")[0, 0] == 0
    assert [len(spans) for spans in small(files, "spans_s")] == [2, 0, 3]
