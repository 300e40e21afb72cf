"""A folder is written whole or not at all, and never over something else."""

from pathlib import Path

import pytest

from training.replacing import FolderInUseError, replacing, whole_file


def test_an_earlier_one_is_replaced_and_a_failure_leaves_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with replacing(folder, marker="mark", what="a thing") as part:
        (part / "mark").write_text("first")

    with pytest.raises(ZeroDivisionError), replacing(folder, marker="mark", what="a thing") as part:
        (part / "mark").write_text(str(1 // 0))
    assert (folder / "mark").read_text() == "first"

    with replacing(folder, marker="mark", what="a thing") as part:
        (part / "mark").write_text("second")
    assert (folder / "mark").read_text() == "second"
    assert list(tmp_path.iterdir()) == [folder]


def test_something_else_is_never_lost(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("love")

    for taken in (tmp_path / "letters", tmp_path, tmp_path / "letters" / "dear.txt"):
        with (
            pytest.raises(FolderInUseError, match="holds something else than a thing: give a new or an empty"),
            replacing(taken, marker="mark", what="a thing"),
        ):
            pass

    assert (tmp_path / "letters" / "dear.txt").read_text() == "love"


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    with whole_file(file) as part:
        part.write_text("old")

    def stop_midway() -> None:
        with whole_file(file) as part:
            part.write_text("ne")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stop_midway()

    assert file.read_text() == "old"
