"""A child that waits for the next request: to fork and to confine one costs a short recording too much time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from service.sandbox.process import Child, SandboxLost


class Spare:
    """One child ahead, forked in a thread of its own while no request is in need of the processor for it."""

    def __init__(self, fork: Callable[[], Child]) -> None:
        self.fork = fork
        self.executor = ThreadPoolExecutor(1, "fork")
        self.lock = threading.Lock()
        self.closed = False
        self.next: Future[Child] | None = None
        self.prepare()

    def prepare(self) -> None:
        """Have a child forked, if none waits."""
        with self.lock:
            if self.next is None and not self.closed:
                self.next = self.executor.submit(self.fork)

    def take(self) -> Child | None:
        """The child, confined and untouched; None where there is none that lives. It is given away once."""
        with self.lock:
            mine, self.next = self.next, None
        return None if mine is None else living(mine)

    def close(self) -> None:
        """End the one that waits; there will be no other."""
        with self.lock:
            self.closed = True
        self.executor.shutdown()
        child = self.take()
        if child is not None:
            child.close()


def living(forked: Future[Child]) -> Child | None:
    try:
        child = forked.result()
    except SandboxLost:
        return None
    if child.silent():
        return child
    child.close()
    return None
