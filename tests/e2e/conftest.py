"""Tiny models, trained on tiny drawn corpora by the real commands, behind a real server on the loopback."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from training.corpora.synthetic import SyntheticAffect, SyntheticPain, synthesize_affwild2, synthesize_biovid
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets

ROOT = Path(__file__).parents[2]
START_S = 300.0
ONE_EPOCH = [f"--set={stage}.epochs=1" for stage in ("encoders", "teacher", "tnet", "student")]


def pkdot(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command as a user runs it, in a fresh process; its caches stay in the test's folder."""
    environment = {**os.environ, "PKDOT_CACHE_DIR": str(cwd / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pkdot", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundles/pain` and `bundles/valence-arousal`, and the runs that made them."""
    try:
        nets = cached_face_nets()
    except FaceNetsMissingError as missing:
        pytest.skip(str(missing))
    place = tmp_path_factory.mktemp("e2e")
    shutil.copytree(nets.parent, place / "cache" / "face")
    synthesize_biovid(place / "biovid", SyntheticPain(people=8, clips_per_class=1, picture_px=128))
    synthesize_affwild2(place / "affwild2", SyntheticAffect(videos=8, validation_videos=2, video_s=6.0, picture_px=128))
    for task, kind in (("pain", "biovid"), ("valence-arousal", "affwild2")):
        recipe = ROOT / "training" / "configs" / f"synthetic-{task}.yaml"
        batch = [f"--set={stage}.batch=8" for stage in ("encoders", "teacher", "tnet", "student")]
        made = pkdot(
            "train", str(recipe), "--out", str(place / "runs" / task), "--set", f"corpus.root={place / kind}",
            "--set", "student.k=4", *ONE_EPOCH, *batch, cwd=place,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    exported = pkdot("export", str(place / "runs" / "pain"), str(place / "bundles" / "pain"), cwd=place)
    assert exported.returncode == 0, exported.stderr
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
        return httpx2.get(f"{url}/health/ready", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False
