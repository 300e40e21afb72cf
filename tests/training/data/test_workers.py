"""Workers do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from {module} import {begin}

def own_number(seconds):
    time.sleep(seconds)
    return os.getpid()


if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer={begin})
    workers = set()
    while len(workers) < 2:  # both are there, and have begun
        workers |= set(pool.map(own_number, [0.1, 0.1]))
    pool.submit(time.sleep, 3600)  # the other is idle
    print(*workers, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("module", "begin"), [("training.compare.compare", "_begin_work"), ("training.data.workers", "end_with_parent")]
)
def test_busy_and_idle_workers_end_when_their_parent_is_killed(module: str, begin: str, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(module=module, begin=begin))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(number) for number in parent.stdout.readline().split()]

    parent.kill()
    try:
        parent.communicate(timeout=60)  # until nobody holds the other end of its output any more
    except subprocess.TimeoutExpired:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        raise

    assert len(workers) == 2
