"""Landlock: no file can be opened, no TCP connection made, no other process signalled (kernel documentation,
userspace-api/landlock; since Linux 5.13).
"""

import ctypes
import os
from typing import Final

from service.sandbox import system

VERSION: Final = 1
"""The flag that asks for the ABI."""
FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""ABI → how many rights to files it knows; they are bits, counted from 0."""
TCP_RIGHTS: Final = 0b11
"""Bind and connect, since ABI 4."""
SCOPES: Final = 0b11
"""Abstract sockets and signals, since ABI 6."""


class Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr. What it handles is forbidden, as no rule is added."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def landlock_abi() -> int:
    """The kernel's version of Landlock, from 1; 0 where there is none."""
    try:
        return system.call("landlock_create_ruleset", None, 0, VERSION)
    except OSError:
        return 0


def handled(abi: int) -> tuple[Ruleset, int]:
    """All that a kernel of this ABI (at least 1) can forbid, and the size of the structure as it knows it."""
    rights = FILE_RIGHTS[max(known for known in FILE_RIGHTS if known <= abi)]
    ruleset = Ruleset((1 << rights) - 1, TCP_RIGHTS if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    return ruleset, 24 if abi >= 6 else 16 if abi >= 4 else 8


def close_files() -> None:
    """Forbid this thread and its children all that Landlock can. Needs no_new_privs. Raises OSError."""
    ruleset, size = handled(max(1, landlock_abi()))
    descriptor = system.call("landlock_create_ruleset", ctypes.byref(ruleset), size, 0)
    try:
        system.call("landlock_restrict_self", descriptor, 0)
    finally:
        os.close(descriptor)
