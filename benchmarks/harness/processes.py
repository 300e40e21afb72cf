"""What a server's processes use, whatever they are called and however they were started. Linux only: reads /proc."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

PR_SET_CHILD_SUBREAPER: Final = 36
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Of several processes together, in bytes."""

    pss: int
    """Proportional set size: pages that n processes share count 1/n in each."""
    anonymous: int
    """RssAnon and swap: what was allocated; files that are mapped are left out."""


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has ended, so that none is lost from the tree."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def descendants(root: int) -> set[int]:
    """The processes below `root`, which is not among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = set[int](), [root]
    while left:
        below = children.get(left.pop(), [])
        found.update(below)
        left += below
    return found


def stat_fields(pid: int) -> Sequence[str]:
    """/proc/PID/stat from the third field on (state, parent, …); empty where the process has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return ()


def cpu_seconds(pids: set[int]) -> float:
    """Time on a core, of the processes and of their children that have ended."""
    ticks = (sum(map(int, fields[11:15])) for pid in pids if (fields := stat_fields(pid)))
    return sum(ticks) / TICKS_PER_S


def memory(pids: set[int]) -> Memory:
    """Memory of the processes that still run."""
    return Memory(total_bytes(pids, "smaps_rollup", ("Pss:",)), anonymous_bytes(pids))


def anonymous_bytes(pids: set[int]) -> int:
    """RssAnon and swap alone, which cost the kernel no walk through the pages."""
    return total_bytes(pids, "status", ("RssAnon:", "VmSwap:"))


def total_bytes(pids: set[int], table: str, names: tuple[str, ...]) -> int:
    """What the lines of these names say in /proc/PID/`table`, of all processes that still run."""
    total_kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/{table}").read_text(encoding="ascii", errors="replace").splitlines()
            total_kib += sum(int(line.split()[1]) for line in lines if line.startswith(names))
    return total_kib << 10


@contextlib.contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """What is started inside runs on these cores, and so do its descendants."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def end_all(root: int, grace_s: float = 10.0) -> None:
    """End what runs below `root`, which is this process, and reap it: SIGTERM, then SIGKILL after `grace_s`."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        until_s = time.monotonic() + wait_s
        for pid in descendants(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while descendants(root) and time.monotonic() < until_s:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(0.02)
