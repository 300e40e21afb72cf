"""Every server gets a virtual environment of its own, made once from its pinned requirements."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parents[1] / "peers"
STAMP: Final = "benchmark-requirements.txt"
AWAKE: Final = "-awake"
"""Behind a server's name: with the threads of a run waiting awake between two operators, as ours do for a lone run."""


class EnvironmentNotMadeError(RuntimeError):
    """pip could not install a server's requirements; the message holds the end of what it said."""


def environment(name: str, cache: Path) -> Path:
    """The `bin` folder of the environment for `requirements-NAME.txt`; made anew where these have changed."""
    name = name.removesuffix(AWAKE)
    wanted = (REQUIREMENTS / f"requirements-{name}.txt").read_text(encoding="utf-8")
    folder = cache.absolute() / "environments" / name
    stamp = folder / STAMP
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"make the environment of {name} in {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        say_or_raise([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        say_or_raise([*pip, "-r", str(REQUIREMENTS / f"requirements-{name}.txt")])
        stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin"


def say_or_raise(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentNotMadeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
