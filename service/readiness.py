"""Says in the log when readiness changes, and why: a probe's answer is read by a balancer, and is gone."""

import logging
from typing import Final

from service.lifecycle import Lifecycle, Status

BAD: Final = frozenset({"stalled", "failed"})

logger = logging.getLogger("pkdot")


class ReadinessLog:
    """One line for each change since it was looked at last."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self.last: Status = "starting"

    def look(self) -> None:
        """Call it a few times a second."""
        status = self.lifecycle.status()
        if status == self.last:
            return
        why = ""
        if status == "stalled":
            why = f", no batch has finished for {self.lifecycle.without_progress_s():.1f} s"
        level = logging.WARNING if status in BAD else logging.INFO
        logger.log(level, "readiness: %s%s (before: %s)", named(status), why, named(self.last))
        self.last = status


def named(status: Status) -> str:
    """A status as operators call it."""
    return "ready" if status == "ok" else status
