"""seccomp: of the kernel's calls only those are left that decoding from open descriptors needs (seccomp(2))."""

import ctypes
import errno
from typing import Final

from service.sandbox import system

ALLOWED: Final = (
    *("read", "pread64", "write", "close", "lseek", "fstat"),
    *("munmap", "mremap", "brk", "madvise"),
    *("futex", "sched_yield", "sched_getaffinity"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("clock_gettime", "clock_nanosleep", "gettimeofday", "time"),
    *("getpid", "gettid", "getrandom"),
    *("poll", "ppoll", "recvmsg", "recvfrom", "sendmsg", "sendto"),
    *("exit", "exit_group"),
)
ALLOWED_WITHOUT_CODE: Final = ("mmap", "mprotect")
"""Memory may be asked for, but none that can be executed: what was broken into cannot bring code of its own."""
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

SET_MODE_FILTER: Final = 1
SPECULATION_ALLOWED: Final = 4
"""Else older kernels slow the process down, to keep it from reading its own memory by speculation."""
KILL_PROCESS: Final = 0x80000000
REFUSE: Final = 0x00050000 | errno.EPERM
ALLOW: Final = 0x7FFF0000

# classic BPF (linux/bpf_common.h): load a word, compare it, return
LOAD_WORD, IF_EQUAL, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
# struct seccomp_data: the number, the machine, and from 16 on six arguments of 8 bytes, low half first
NUMBER_AT, MACHINE_AT, THIRD_ARGUMENT_AT = 0, 4, 32
EXECUTABLE: Final = 4


class Instruction(ctypes.Structure):
    """struct sock_filter: an operation, how far to jump if true and if false, and its constant."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


def allow_list(machine: str) -> list[Instruction]:
    """The filter for "x86_64" or "aarch64"."""
    column = system.MACHINES.index(machine)
    program = [
        Instruction(LOAD_WORD, 0, 0, MACHINE_AT),
        Instruction(IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        Instruction(LOAD_WORD, 0, 0, NUMBER_AT),
    ]
    for name in ALLOWED:
        number = system.NUMBERS[name][column]
        if number is not None:
            program += [Instruction(IF_EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, ALLOW)]
    for name in ALLOWED_WITHOUT_CODE:
        number = system.NUMBERS[name][column]
        assert number is not None
        program += [
            Instruction(IF_EQUAL, 0, 4, number),
            Instruction(LOAD_WORD, 0, 0, THIRD_ARGUMENT_AT),
            Instruction(IF_ANY_BIT, 0, 1, EXECUTABLE),
            Instruction(RETURN, 0, 0, REFUSE),
            Instruction(RETURN, 0, 0, ALLOW),
        ]
    return [*program, Instruction(RETURN, 0, 0, REFUSE)]


def close_kernel() -> None:
    """Leave this thread only the calls in the list; others fail with EPERM. Needs no_new_privs. Raises OSError."""
    machine = system.machine()
    if machine is None:
        raise OSError(errno.ENOSYS, "no list of calls is known for this machine")
    instructions = allow_list(machine)
    program = Program(len(instructions), (Instruction * len(instructions))(*instructions))
    system.call("seccomp", SET_MODE_FILTER, SPECULATION_ALLOWED, ctypes.byref(program))
