import argparse
import json
import stat
from pathlib import Path

import pytest

from service.access.cli import add_keys
from service.access.keys import find_key, read_keys


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="pkdot")
    add_keys(parser.add_subparsers(required=True))
    arguments = parser.parse_args(["keys", "new", *words])
    return int(arguments.run(arguments))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PKDOT_API_KEYS_FILE", raising=False)
    return tmp_path / "keys"


def test_a_key_is_printed_once_and_only_its_hash_is_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ward-7", "--limit", "4", "--file", str(file)) == 0
    out, err = capsys.readouterr()
    token = out.strip()

    (key,) = read_keys(file.read_text())
    assert find_key([key], token) == key
    assert (key.name, key.limit) == ("ward-7", 4)
    assert token not in err + file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_are_added_behind_what_is_there(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKDOT_API_KEYS_FILE", str(file))
    file.write_text("# the wards")
    assert [run("a", "--json"), run("b")] == [0, 0]
    first, second = capsys.readouterr().out.splitlines()

    keys = read_keys(file.read_text())
    assert [key.name for key in keys] == ["a", "b"]
    assert file.read_text().startswith("# the wards\na:")
    assert [find_key(keys, token) for token in (json.loads(first)["key"], second)] == keys


@pytest.mark.parametrize(("words", "code"), [(("ward",), 1), (("a:b",), 2), (("b", "--limit", "0"), 2)])
def test_what_cannot_be_leaves_the_file_as_it_is(
    file: Path, words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ward", "--file", str(file))
    before = file.read_text()
    capsys.readouterr()

    assert run(*words, "--file", str(file)) == code
    assert file.read_text() == before
    assert capsys.readouterr().out == ""


def test_without_a_file_nothing_is_made(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ward") == 2
    assert run("ward", "--file", str(file / "below" / "keys")) == 1
    assert capsys.readouterr().out == ""
