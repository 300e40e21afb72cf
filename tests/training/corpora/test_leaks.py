from pathlib import Path

from training.corpora.leaks import identical_files


def test_files_with_the_same_bytes_are_named_once(tmp_path: Path) -> None:
    contents = {"a": b"one", "sub/b": b"one", "c": b"two", "sub/d": b"one", "e": b"three"}
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    found = identical_files([tmp_path / name for name in contents], tmp_path)

    assert found == ["a and sub/b and 1 more are the same file: expected a recording of its own for each clip."]


def test_one_file_that_is_given_twice_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")

    assert identical_files([tmp_path / "a", tmp_path / "a"], tmp_path) == []
