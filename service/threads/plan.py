"""How many cores this process may really use, and what each part of the service gets of them."""

import math
import os
from pathlib import Path
from typing import Final, NamedTuple

MAX_LANES: Final = 32
"""Each run at once holds memory of its own."""


class ThreadPlan(NamedTuple):
    """The one place that divides the cores; no part asks the operating system again."""

    cores: int
    intra_op: int
    """Threads of a graph's run that is alone; others have one each."""
    decoders: int
    """Recordings that are decoded at once, one core each."""
    lanes: int = 1
    """Runs of graphs at once on one device."""


def plan_threads(cores: int, on_gpu: bool) -> ThreadPlan:
    """On a CPU computing and decoding may each use every core; beside a GPU one core feeds it and the rest decode.

    A thread that waits for work costs nothing, and the two seldom peak together: tensors need no decoder, and a
    recording is decoded before it is computed. Runs side by side with a thread each waste nothing; to divide one run
    among threads costs them waiting for each other at each operator, so that is done for a run that is alone.

    >>> plan_threads(8, on_gpu=False)
    ThreadPlan(cores=8, intra_op=8, decoders=8, lanes=8)
    """
    if cores < 1:
        raise ValueError(f"a plan needs at least one core; got {cores}")
    if on_gpu:
        return ThreadPlan(cores, 1, max(1, cores - 1))
    return ThreadPlan(cores, cores, cores, min(cores, MAX_LANES))


def available_cores() -> int:
    """Cores that affinity and the cgroup's quota leave to this process, rounded up; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    membership = Path("/proc/self/cgroup")
    text = membership.read_text(encoding="utf-8") if membership.is_file() else ""
    quota = quota_cores(text, Path("/sys/fs/cgroup"))
    return max(1, min(allowed, math.ceil(quota))) if quota is not None else allowed


def quota_cores(membership: str, mount: Path) -> float | None:
    """The smallest CPU quota on the way from this process's cgroup to the root, in cores; None where there is none.

    `membership` is the text of /proc/self/cgroup, `mount` the folder where cgroups are mounted. Inside a container the
    path of the membership may not exist under the mount: then the mount's root is the container's own cgroup.
    """
    quotas = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = mount, read_quota_v2
        elif "cpu" in controllers.split(","):
            root, read = mount / "cpu", read_quota_v1
        else:
            continue
        own = root / path.lstrip("/")
        folders = [own, *own.parents]
        quotas += [read(folder) for folder in folders if folder == root or root in folder.parents]
    return min((quota for quota in quotas if quota is not None), default=None)


def read_quota_v2(folder: Path) -> float | None:
    """`cpu.max` holds "max 100000" or "150000 100000": quota and period in µs."""
    values = read_words(folder / "cpu.max")
    return int(values[0]) / int(values[1]) if len(values) == 2 and values[0] != "max" else None


def read_quota_v1(folder: Path) -> float | None:
    """A quota of -1 µs means none."""
    quota, period = read_words(folder / "cpu.cfs_quota_us"), read_words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else None


def read_words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return []
