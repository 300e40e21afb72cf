"""The layers of the sandbox, each on its own: what the kernel does not have is a layer less, never a crash.

The zygote gives up its network, its user and its rights once, for all its children; limits, Landlock and seccomp are
laid on each child anew.
"""

import ctypes
import os
import resource
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from service.sandbox import landlock, seccomp, system

ZYGOTE_LAYERS: Final = ("no_new_privs", "unprivileged", "network")
CHILD_LAYERS: Final = ("rlimits", "landlock", "seccomp")
LAYERS: Final = (*CHILD_LAYERS, *ZYGOTE_LAYERS)

THIS_PROCESS: Final = 0
NOBODY: Final = 65_534
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 1, 4, 38, 39
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CAPABILITY_VERSION_3: Final = 0x20080522

MAX_DESCRIPTORS: Final = 5
"""The socket to the parent, null twice, the shared memory and the recording: a sixth cannot be opened."""
UNKNOWN_SIZE: Final = 1 << 30
FIRST_TO_GO: Final = "1000"


class Capabilities(ctypes.Structure):
    """struct __user_cap_header_struct, and two of __user_cap_data_struct."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int), ("rights", ctypes.c_uint32 * 6))


def attempt(*steps: Callable[[], object]) -> bool:
    """Whether all of these could be done; the first that cannot ends it."""
    try:
        for step in steps:
            step()
    except (OSError, ValueError):  # ValueError: setrlimit beyond what is allowed
        return False
    return True


def enter_zygote() -> list[str]:
    """Give up the network, the user and the rights; returns the layers that hold.

    The network goes first with root's rights, as many containers let nobody else make a namespace of users.
    """
    attempt(lambda: Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO, encoding="ascii"))
    no_network = attempt(lambda: system.unshare(CLONE_NEWNET))
    attempt(leave_root)
    real_user = os.geteuid()
    no_network = no_network or attempt(lambda: system.unshare(CLONE_NEWUSER | CLONE_NEWNET))
    unprivileged = attempt(drop_capabilities) and real_user != 0
    attempt(lambda: system.prctl(PR_SET_DUMPABLE, 0))
    attempt(lambda: system.prctl(PR_SET_NO_NEW_PRIVS, 1))
    no_new_privs = attempt(lambda: system.prctl(PR_GET_NO_NEW_PRIVS)) and system.prctl(PR_GET_NO_NEW_PRIVS) == 1
    return [name for name, holds in zip(ZYGOTE_LAYERS, (no_new_privs, unprivileged, no_network), strict=True) if holds]


def leave_root() -> None:
    """Become nobody, where one is root. Raises OSError."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_capabilities() -> None:
    """Give up every capability. Raises OSError."""
    none = Capabilities(CAPABILITY_VERSION_3, 0)
    header, data = ctypes.byref(none), ctypes.byref(none, Capabilities.rights.offset)
    system.call("capset", header, data)


def die_with(parent: int) -> bool:
    """Be killed when the process `parent`, which forked this one, ends; False where it has ended already."""
    attempt(lambda: system.prctl(PR_SET_PDEATHSIG, 9))
    return os.getppid() == parent


def enter_child(wanted: Collection[str], *, cpu_s: int, memory_bytes: int) -> list[str]:
    """Lay the `wanted` ones of CHILD_LAYERS on this process; returns those that hold."""
    steps: Mapping[str, Callable[[], object]] = {
        "rlimits": lambda: set_limits(cpu_s, memory_bytes),
        "landlock": landlock.close_files,
        "seccomp": seccomp.close_kernel,
    }
    return [name for name, step in steps.items() if name in wanted and attempt(step)]


def set_limits(cpu_s: int, memory_bytes: int) -> None:
    """Bound seconds of processor time, and bytes of address space beyond those in use; no file, process or dump."""
    bound_cpu(THIS_PROCESS, cpu_s)
    lower(THIS_PROCESS, resource.RLIMIT_AS, *[mapped_bytes() + memory_bytes] * 2)
    lower(THIS_PROCESS, resource.RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS)
    for nothing in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        lower(THIS_PROCESS, nothing, 0, 0)


def bound_cpu(pid: int, cpu_s: int) -> None:
    """Bound a process's seconds of processor time. Raises OSError and ValueError."""
    lower(pid, resource.RLIMIT_CPU, cpu_s, cpu_s + 1)


def lower(pid: int, which: int, soft: int, hard: int) -> None:
    _, allowed = resource.prlimit(pid, which)
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.prlimit(pid, which, (soft, hard))


def mapped_bytes() -> int:
    """The address space in use."""
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return UNKNOWN_SIZE
    try:
        return int(os.read(descriptor, 100).split()[0]) * resource.getpagesize()
    finally:
        os.close(descriptor)
