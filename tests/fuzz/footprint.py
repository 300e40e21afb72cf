"""What a service holds when it is idle, and whether that has grown."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.request import urlopen

from benchmarks.harness import processes

SETTLE_S: Final = 60.0
HELD: Final = ("pkdot_spool_bytes", "pkdot_requests_in_flight", "pkdot_streams")


class Footprint(NamedTuple):
    """Of a service and its processes."""

    descriptors: int
    threads: int
    processes: int
    anonymous_bytes: int
    """RssAnon and swap."""
    pss_bytes: int
    spool_files: int
    held: float
    """Bytes in the spool, requests at work and streams that are open, by its own metrics: 0 where it is idle."""


MOST_GROWTH: Final = Footprint(
    descriptors=5, threads=32, processes=0, anonymous_bytes=100 << 20, pss_bytes=100 << 20, spool_files=0, held=0.0
)
"""Pools of threads grow with the first need; the allocator keeps what it once had."""


def growth(before: Footprint, after: Footprint) -> list[str]:
    """A sentence for each thing that has grown beyond MOST_GROWTH."""
    return [
        f"{name} grew from {was:.0f} to {now:.0f}; allowed is {most:.0f} more"
        for name, was, now, most in zip(Footprint._fields, before, after, MOST_GROWTH, strict=True)
        if now - was > most
    ]


def settled(measure: Callable[[], Footprint], before: Footprint | None = None) -> Footprint:
    """The footprint once nothing is held, nor has grown since `before`, or after a while.

    It is the smallest of a few, as children take time to end.
    """
    until_s = time.monotonic() + SETTLE_S
    while is_busy(found := measure(), before) and time.monotonic() < until_s:
        time.sleep(0.2)
    for _ in range(5):
        time.sleep(0.1)
        found = Footprint._make(map(min, found, measure()))
    return found


def is_busy(found: Footprint, before: Footprint | None) -> bool:
    return found.held > 0 or (before is not None and growth(before, found) != [])


def footprint(pid: int, port: int, spool: Path) -> Footprint:
    """Of the service with this process, port and folder for uploads."""
    wait_for_the_next_decoder(pid)
    alive = {pid, *processes.descendants(pid)}
    memory = processes.memory(alive)
    values = metrics(port)
    return Footprint(
        sum(map(descriptors, alive)),
        sum(map(threads, alive)),
        len(alive),
        memory.anonymous,
        memory.pss,
        len(list(spool.iterdir())),
        sum(value for name, value in values.items() if name.startswith(HELD)),
    )


def wait_for_the_next_decoder(pid: int) -> None:
    """Until the sandbox has forked the decoder that waits for a request: measured without it, it would be growth."""
    until_s = time.monotonic() + SETTLE_S
    while not has_forked_ahead(pid) and time.monotonic() < until_s:
        time.sleep(0.05)


def has_forked_ahead(pid: int) -> bool:
    """Whether each child of the service, which is the sandbox's zygote, has a child of its own."""
    below = {one: processes.descendants(one) for one in processes.descendants(pid)}
    return all(below[one] for one in below.keys() - set[int]().union(*below.values()))


def descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def threads(pid: int) -> int:
    fields = processes.stat_fields(pid)
    return int(fields[17]) if fields else 0


def metrics(port: int) -> dict[str, float]:
    """What /metrics says, by series."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
