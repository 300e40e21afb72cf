"""Ending a run of a graph that nobody waits for any more."""

from typing import Final

import onnxruntime

TERMINATED: Final = "terminate flag"
"""onnxruntime has no error class of its own for a run that was ended; this is part of its message."""


class RunCancelled(Exception):
    """A run ended early because it was asked to; there is no result, and the session can be used again."""


class Cancellation:
    """Belongs to one batch. May be asked from another thread than the one that computes, before or during its runs."""

    __slots__ = ("asked", "options")

    def __init__(self) -> None:
        self.asked = False
        self.options = onnxruntime.RunOptions()

    def ask(self) -> None:
        """The run under way ends before its next node, and none begins."""
        self.asked = True
        self.options.terminate = True

    def recognises(self, error: Exception) -> bool:
        """Whether an error of onnxruntime says no more than that this was asked."""
        return self.asked and TERMINATED in str(error)
