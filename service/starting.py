"""Signals while what the service needs is still being imported; later they meet the handlers of `service.server`."""

import os
import signal
from types import FrameType


def mind_signals() -> None:
    """As later, SIGHUP is survived, and SIGTERM and SIGINT end the process with 0. To be called in the main thread."""
    if hasattr(signal, "SIGHUP"):  # Windows has none
        signal.signal(signal.SIGHUP, stay)  # not SIG_IGN, which programs that the service starts would inherit
    for ends in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ends, leave)


def stay(_signal: int, _frame: FrameType | None) -> None:
    """Nothing is loaded yet that could be read again."""


def leave(_signal: int, _frame: FrameType | None) -> None:
    """At once, since nothing is open yet: a SystemExit could be caught by what is being imported."""
    os._exit(0)
