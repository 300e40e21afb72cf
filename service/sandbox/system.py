"""Calls of the Linux kernel that Python has no name for, by their numbers."""

import ctypes
import errno
import os
import platform
import sys
from typing import Final

MACHINES: Final = ("x86_64", "aarch64")

# name → number on each of MACHINES; None where it has no such call
NUMBERS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "pread64": (17, 67),
    "close": (3, 57),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    "futex": (202, 98),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "poll": (7, None),
    "ppoll": (271, 73),
    "recvmsg": (47, 212),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "capset": (126, 91),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
}

LIBC: Final = ctypes.CDLL(None, use_errno=True)


def machine() -> str | None:
    """Which column of NUMBERS holds here; None on any other machine, also for a program of 32 bits."""
    name = platform.machine()
    return name if name in MACHINES and sys.maxsize > 1 << 32 else None


def number(name: str) -> int | None:
    """The number of a call here; None where it is not known."""
    here = machine()
    return None if here is None else NUMBERS[name][MACHINES.index(here)]


def call(name: str, *arguments: "int | ctypes._CArgObject | None") -> int:
    """Call the kernel: integers, `ctypes.byref` and None. Raises OSError, also where the number is not known."""
    what = number(name)
    if what is None or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return checked(LIBC.syscall(ctypes.c_long(what), *map(as_argument, arguments)))


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument; the others are 0. Raises OSError."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    rest = [ctypes.c_ulong(0)] * 3
    return checked(LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *rest))


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    checked(LIBC.unshare(ctypes.c_int(flags)))


def as_argument(value: "int | ctypes._CArgObject | None") -> "ctypes.c_long | ctypes._CArgObject | None":
    # ctypes would pass a plain int in 32 bits
    return ctypes.c_long(value) if isinstance(value, int) else value


def checked(result: int) -> int:
    if result < 0:
        reason = ctypes.get_errno()
        raise OSError(reason, os.strerror(reason))
    return int(result)
