import argparse
import json
import shutil
import socket
from pathlib import Path

import pytest

from service.cli import add_commands


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


def test_a_port_that_is_taken_is_a_failure_in_one_sentence(
    bundles_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert run("serve", "--bundles", str(bundles_folder), "--port", str(port)) == 1

    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


def test_the_help_of_serve_has_an_example_and_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("serve", "--help")

    shown = capsys.readouterr().out
    assert "example: pkdot serve" in shown
    assert "PKDOT_MAX_UPLOAD_BYTES" in shown
