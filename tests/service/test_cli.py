import argparse
import errno
import io
import json
import shutil
import socket
from pathlib import Path

import pytest

from service.cli import add_commands
from service.server import Server


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="pkdot")
    add_commands(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    return int(arguments.run(arguments))


@pytest.fixture(autouse=True)
def no_bundles_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PKDOT_BUNDLES", raising=False)


def test_a_whole_bundle_is_right(pain_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "check", str(pain_bundle), "--json") == 0

    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["name"], report["task"], report["graphs"]) == (True, "pain-test", "pain", 1)
    assert run("bundle", "check", str(pain_bundle)) == 0
    assert " files and 1 golden graph is right on " in capsys.readouterr().out


def test_a_changed_bundle_is_named_on_stderr(
    pain_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pain_bundle, copy)
    (copy / "card.md").write_text("another card")

    assert run("bundle", "check", str(copy)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "card.md" in err


def test_the_card_is_printed_as_it_is(pain_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "card", str(pain_bundle)) == 0
    assert capsys.readouterr().out.strip() == (pain_bundle / "card.md").read_text().strip()


def test_serving_without_bundles_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve") == 2
    assert "--bundles" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_no_folder_of_bundles_is_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("serve", "--bundles", "", "--port", "0") == 2
    assert capsys.readouterr().err.startswith("pkdot: PKDOT_BUNDLES is not set; ")


def test_a_full_disk_behind_stderr_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())

    assert run("bundle", "check", str(tmp_path / "none")) == 1


def test_a_port_that_is_taken_is_a_failure_in_one_sentence(
    bundles_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert run("serve", "--bundles", str(bundles_folder), "--port", str(port)) == 1

    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends leaves the process and pytest's log as they are."""
    monkeypatch.setattr("service.cli.set_up_logging", lambda _: None)
    monkeypatch.setattr(Server, "end_in_any_case", lambda _: None)


@pytest.mark.parametrize("host", ["nope.invalid", "192.0.2.1", "a..b"])
def test_a_host_that_is_not_this_machines_is_a_wrong_use(
    host: str, bundles_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", "--bundles", str(bundles_folder), "--port", "0", "--host", host) == 2
    assert capsys.readouterr().err.startswith(f"pkdot: PKDOT_HOST={host!r} is not possible: ")


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PKDOT_PROVIDERS", "Nope", "PKDOT_PROVIDERS=Nope is not possible here: Nope not installed; there are "),
        ("PKDOT_SPOOL_DIR", "/nope", "PKDOT_SPOOL_DIR=/nope cannot be written: "),
        ("PKDOT_CANARY", "/nope@0.1", "PKDOT_CANARY names /nope, which is no folder; make it, or correct the setting"),
        ("PKDOT_SHADOW", "/nope@0.1", "PKDOT_SHADOW names /nope, which is no folder; make it, or correct the setting"),
    ],
)
def test_settings_that_are_impossible_here_end_it_with_2(
    variable: str,
    value: str,
    sentence: str,
    bundles_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(variable, value)

    assert run("serve", "--bundles", str(bundles_folder), "--port", "0") == 2
    messages = [record.getMessage() for record in caplog.records if record.name == "pkdot"]
    assert any(message.startswith(sentence) for message in messages)
    assert messages[-1] == "the service has ended, with exit code 2"


@pytest.mark.usefixtures("in_this_process")
def test_bundles_that_are_not_there_end_it_with_1(tmp_path: Path) -> None:
    assert run("serve", "--bundles", str(tmp_path / "none"), "--port", "0") == 1


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_that_may_not_be_read_is_one_sentence(
    bundles_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("service.bundles.loader.bundle_folders", refuse)

    assert run("serve", "--bundles", str(bundles_folder), "--port", "0") == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR" and record.name == "pkdot"]
    assert record.getMessage() == f"[Errno 13] Permission denied: '{bundles_folder}'"
    assert record.exc_info is None


def test_the_help_of_serve_has_an_example_and_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("serve", "--help")

    shown = capsys.readouterr().out
    assert "example: pkdot serve" in shown
    assert "PKDOT_MAX_UPLOAD_BYTES" in shown
