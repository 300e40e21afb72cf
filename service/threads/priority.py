"""What computes stands back for the event loop, which has little to do each time, but everybody waits for it.

On Linux each thread has a priority of its own, which threads and processes that it starts begin with.
"""

import os
import threading
from contextlib import suppress
from typing import Final

COMPUTING: Final = 2
"""Against this the loop has half as much again of a claim on a core. A core that is free computes as before. Much
lower, and the service would lose to others on a shared machine, where a group's claim is that of its threads."""
SPARE_TIME: Final = 19
"""As far down as there is: for work that nobody waits for."""


def stand_back(steps: int = COMPUTING) -> None:
    """Lower this thread's priority by so many steps; where threads have none of their own, it runs like any other."""
    thread = threading.get_native_id()
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + steps)
