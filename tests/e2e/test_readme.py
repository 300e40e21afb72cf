"""The README's commands do what it says: they are taken from its text and run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("   #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


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


def test_the_pkdot_commands_run_in_their_order(workplace: Path, tmp_path: Path) -> None:
    commands = [command for command in COMMANDS if command.startswith("pkdot ")]
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "biovid").symlink_to(workplace / "biovid")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "bundles").symlink_to(workplace / "bundles")
    (tmp_path / "training").symlink_to(ROOT / "training")
    quick = ["--set=student.k=4"]
    quick += [
        f"--set={stage}.{key}"
        for stage in ("encoders", "teacher", "tnet", "student")
        for key in ("epochs=1", "batch=8")
    ]
    environment = {**os.environ, "PKDOT_CACHE_DIR": str(workplace / "cache"), "PYTHONPATH": str(ROOT)}

    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments[0] in ("train", "compare"):
            arguments += quick
        done = subprocess.run(
            [sys.executable, "-m", "pkdot", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"

    assert len(commands) >= 9
    assert (tmp_path / "bundles" / "pain" / "manifest.json").is_file()
    assert "| PKDOT balanced (face) |" in (tmp_path / "runs/compare/synthetic-features/table.md").read_text()
