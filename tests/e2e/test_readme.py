"""The README's commands do what it says: they are taken from its text and run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMANDS, README, ROOT, RUN_COMMANDS, as_in_the_readme


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    named |= set(re.findall(r"`make ([a-z-]+)`", README))

    assert named <= targets
    assert {"demo", "test"} <= named


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]

    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("curl")])
def test_a_curl_command_gets_an_answer(command: str, address: str, clips: Path, tmp_path: Path) -> None:
    shutil.copy(clips / "single_face.mp4", tmp_path / "clip.mp4")
    shutil.copy(clips / "single_face.jpg", tmp_path / "face.jpg")
    arguments = command.replace("http://127.0.0.1:8000", address).split()

    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert '"windows":' in done.stdout


def test_the_pkdot_commands_run_in_their_order(workplace: Path) -> None:
    commands = [command for command in COMMANDS if command.startswith("pkdot ")]
    (workplace / "runs" / "demo").mkdir()
    (workplace / "runs" / "demo" / "bundles").symlink_to(workplace / "bundles")

    for command in commands:
        if command not in RUN_COMMANDS:  # these made the workplace, in their order
            as_in_the_readme(command, workplace)

    assert len(commands) >= 9
    assert (workplace / "bundles" / "pain" / "manifest.json").is_file()
    assert "| PKDOT balanced (face) |" in (workplace / "runs/compare/synthetic-features/table.md").read_text()
