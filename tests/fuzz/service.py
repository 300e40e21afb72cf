"""A real `pkdot serve` with small limits, so that small inputs reach them; and what it said."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.harness.servers import free_port
from tests.conftest import write_affect_bundle, write_pain_bundle
from training.face_nets.fetch import cached_face_nets

from .footprint import Footprint, footprint

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 10.0
MARGIN_S: Final = 20.0
STREAM_S: Final = 60.0
"""A stream has no deadline: windows are sent however late they are. So long after its end it hangs."""
START_S: Final = 300.0
SETTINGS: Final = {
    "MAX_UPLOAD_BYTES": 4 << 20,
    "MAX_DURATION_S": 60,
    "MAX_PIXELS": 1 << 20,
    "MAX_FRAMES": 500,
    "MAX_WINDOWS": 300,
    "SPOOL_MEMORY_BYTES": 16 << 10,
    "MAX_SPOOL_BYTES": 64 << 20,
    "SLOW_UPLOAD_AFTER_S": 3,
    "REQUEST_TIMEOUT_S": DEADLINE_S,
    "MAX_REQUEST_TIMEOUT_S": DEADLINE_S,
    "MAX_IDEMPOTENT_BYTES": 1 << 20,
    "LOG_FORMAT": "json",
    "DRAIN_S": 0,
}


class Service:
    """One that runs, and is ready."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
        self.process, self.port = process, port
        self.spool, self.log = folder / "spool", folder / "log"

    def footprint(self) -> Footprint:
        return footprint(self.process.pid, self.port, self.spool)

    def models(self) -> list[dict[str, Any]]:
        """Every model as /v2 describes it."""
        return [self.ask(f"/v2/models/{model['name']}") for model in self.ask("/models")["models"]]

    def ask(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as reply:
            return json.load(reply)

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("/health/ready"))
        except (OSError, URLError):
            return False

    def complaints(self) -> list[str]:
        """Each error in its log, once, and each line that is none of its log: a traceback, a word of a library."""
        found: dict[str, None] = {}
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {} if line.startswith("pkdot: ") else {"level": "ERROR", "message": line}
            if entry.get("level") in ("ERROR", "CRITICAL"):
                found[f"the log says: {entry['message']} {entry.get('exception', '')}".rstrip()] = None
        return list(found)


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    """A service in `folder`, on a free port; it has ended afterwards. Raises RuntimeError where it does not start."""
    (folder / "spool").mkdir()
    write_pain_bundle(folder / "bundles" / "pain", cached_face_nets())
    write_affect_bundle(folder / "bundles" / "affect", cached_face_nets())
    port = free_port()
    settings = {f"PKDOT_{name}": str(value) for name, value in {**SETTINGS, "SPOOL_DIR": folder / "spool"}.items()}
    command = [sys.executable, "-m", "pkdot", "serve", "--bundles", str(folder / "bundles"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stderr=log)
    service = Service(process, port, folder)
    try:
        until_s = time.monotonic() + START_S
        while not service.is_ready():
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"the service does not start: {service.log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
