"""No dump of the memory, in which recordings and keys are, goes to a disk or to another program of the same user."""

import logging
import resource
from typing import Final

from service.sandbox import system

PR_SET_DUMPABLE: Final = 4

logger = logging.getLogger("pkdot")


def forbid_dumps() -> None:
    """For this process and what it forks. Where the system has no such switch, that is a warning in the log.

    The limit alone would not do: Linux ignores it where dumps are piped to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        system.prctl(PR_SET_DUMPABLE, 0)
    except OSError as error:
        logger.warning("other programs of this user can read the service's memory: %s", error.strerror)
