"""Tiny models, trained on tiny drawn corpora by the real commands, behind a real server on the loopback."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from pkdot import main
from tests import loopback
from training.corpora.synthetic import SyntheticAffect, SyntheticPain, synthesize_affwild2, synthesize_biovid
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets

ROOT = Path(__file__).parents[2]
START_S = 300.0
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("   #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
"""Of the README, in its order."""
RUN_COMMANDS = [line for line in COMMANDS if line.startswith(("pkdot train ", "pkdot evaluate ", "pkdot export "))]
QUICK = [
    "--set=student.k=4",
    *(
        f"--set={stage}.{key}"
        for stage in ("encoders", "teacher", "tnet", "student")
        for key in ("epochs=1", "batch=8")
    ),
]


class Done(NamedTuple):
    """How a command ended."""

    returncode: int | str | None
    stdout: str
    stderr: str


def pkdot(*arguments: object, cwd: Path, **variables: str) -> Done:
    """The command as a user runs it, in a fresh process; its caches stay in the test's folder."""
    environment = {**os.environ, "PKDOT_CACHE_DIR": str(cwd / "cache"), "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "pkdot", *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def pkdot_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """As `pkdot`, by the same `main`, but in the tests' process: that has imported torch already."""

    def run(*arguments: object, cwd: Path) -> Done:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr("sys.argv", ["pkdot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code, *capsys.readouterr())

    return run


def as_in_the_readme(command: str, cwd: Path) -> None:
    """A line of the README; what it trains is trained for one epoch."""
    _, *arguments = shlex.split(command)
    done = pkdot(*arguments, *(QUICK if arguments[0] in ("train", "compare") else ()), cwd=cwd)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundles/pain` and `bundles/valence-arousal`, and the runs that made them.

    The pain run is the README's, by `RUN_COMMANDS`; what its metrics.json held after the first lies in `trained.json`.
    """
    try:
        nets = cached_face_nets()
    except FaceNetsMissingError as missing:
        pytest.skip(str(missing))
    place = tmp_path_factory.mktemp("e2e")
    shutil.copytree(nets.parent, place / "cache" / "face")
    (place / "training").mkdir()
    (place / "training" / "configs").symlink_to(ROOT / "training" / "configs")
    pain = SyntheticPain(people=8, clips_per_class=1, picture_px=128)
    synthesize_biovid(place / "corpora" / "biovid", pain)
    affect = SyntheticAffect(videos=8, validation_videos=2, video_s=6.0, picture_px=128)
    synthesize_affwild2(place / "corpora" / "affwild2", affect)
    train, *others = RUN_COMMANDS
    as_in_the_readme(train, place)
    shutil.copyfile(place / "runs" / "biovid" / "metrics.json", place / "trained.json")
    for command in others:
        as_in_the_readme(command, place)
    recipe, root = "training/configs/synthetic-valence-arousal.yaml", "corpus.root=corpora/affwild2"
    made = pkdot("train", recipe, "--out", "runs/valence-arousal", "--set", root, *QUICK, cwd=place)
    assert made.returncode == 0, made.stderr
    shutil.copytree(place / "runs" / "valence-arousal" / "bundle", place / "bundles" / "valence-arousal")
    return place


@pytest.fixture(scope="session")
def address(workplace: Path) -> Iterator[str]:
    """Where a real `pkdot serve` listens on both bundles."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "pkdot", "serve", "--bundles", str(workplace / "bundles"), "--port", str(port)],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PKDOT_DRAIN_S": "0"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_S
        while not ready(url):
            assert server.poll() is None, "the service stopped before it was ready"
            assert time.monotonic() < until, f"the service was not ready after {START_S:g} s"
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0


def ready(url: str) -> bool:
    try:
        return loopback.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False
