"""A folder is written whole or not at all, and never over something else."""

from pathlib import Path

import pytest

from training.files.replacing import FolderInUseError, FolderUnusableError, replacing, require_usable, whole_file


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
    assert list(tmp_path.iterdir()) == [file]


def test_two_processes_that_write_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics.json"
    with whole_file(file) as ours:
        ours.write_text("ours")
        monkeypatch.setattr("os.getpid", lambda: -1)
        with whole_file(file) as theirs:
            theirs.write_text("theirs")
        assert file.read_text() == "theirs"

    assert file.read_text() == "ours"


def test_a_folder_that_cannot_be_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file, lost = tmp_path / "file", tmp_path / "lost"
    lost.symlink_to(tmp_path / "nowhere")

    for folder, which in ((file, "it"), (file / "a" / "b", str(file)), (lost, "it")):
        with pytest.raises(FolderUnusableError) as raised:
            require_usable(folder)
        assert str(raised.value) == f"{folder} cannot be written: {which} is not a folder; give another folder"
    with pytest.raises(FolderUnusableError, match=r"^/proc/x cannot be written: nothing can be made in /proc \("):
        require_usable(Path("/proc/x"))
    with pytest.raises(FolderUnusableError), replacing(file / "made", marker="mark", what="a thing"):
        pass
    require_usable(tmp_path / "new" / "deep")

    assert sorted(tmp_path.iterdir()) == [file, lost]
