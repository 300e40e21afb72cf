"""Worker processes end when the process that started them does, even where that one is killed."""

import os
import signal
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent() -> None:
    """To be called first in a worker: from now on it ends, with exit code 1, as soon as its parent is gone.

    An idle worker waits for work from a queue whose ends it holds itself, so that it would wait for ever. Ctrl-C, which
    reaches all processes of a terminal, ends a worker without a traceback: its parent says it for all.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None  # only a process that multiprocessing started is a worker
    Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # not sys.exit, which would end this thread alone
