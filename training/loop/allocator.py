"""Memory that stays: large tensors come and go with every batch, and giving them back each time costs as well."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""From glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next tensor; elsewhere nothing happens.

    By default it returns every large block to the kernel, which clears each page anew when it is asked for again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
