"""The zygote: a small program of one thread that has imported what decoding needs, and forks a child when asked.

It is started as a fresh program, so that it holds nothing of the service: no environment, no descriptor, no bundle, no
onnxruntime. It never reads a byte of a recording.
"""

import contextlib
import gc
import os
import pkgutil
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import av
from av.codec.context import CodecContext

from models.inputs.media.streams import SOUND_DECODERS, VIDEO_DECODERS
from service.sandbox import child, layers, rehearsal, wire

Work = Callable[[child.Link], None]

LAST_SEEN_S: Final = 10.0
"""For how long a thread that has ended may still be listed."""


def main(work: Work = child.work) -> None:
    """Serve the socket that is the program's standard input until its other end is closed."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, child.CONTROL)
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)  # the service stops it, when the last recording is done
    import_all_of_av()
    warm_up()
    film = rehearsal.film()
    rehearsal.read(film)
    threads = threads_left(LAST_SEEN_S)
    holding = layers.enter_zygote()
    gc.collect()
    gc.freeze()  # else the collector would write to the pages that children share
    wire.send(control, {"threads": threads, "layers": holding})
    with contextlib.suppress(ConnectionError):  # the service was killed
        serve(control, film, work)


def serve(control: socket.socket, film: bytes, work: Work) -> None:
    dropped: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: reap(dropped))
    while (received := wire.receive(control, 2)) is not None:
        order, descriptors = received
        match order:
            case {"end": pid}:
                reply = {"status": end(pid)}
            case {"drop": pid}:
                os.kill(pid, signal.SIGKILL)  # first: once it is in `dropped`, a signal may free its number
                dropped.add(pid)
                reap(dropped)  # it may have died before
                continue
            case {"bound": pid, "cpu_s": cpu_s}:
                reply = {"holds": layers.attempt(partial(layers.bound_cpu, pid, cpu_s))}
            case _:
                reply = fork(control, order, descriptors, film, work)
        wire.send(control, reply)


def end(pid: int) -> int:
    """Kill a child, if it has not died, and return its wait status. Until then nobody else can get its number."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return status


def reap(dropped: set[int]) -> None:
    """Take note of the ends of children that nobody asks about; the kernel needs milliseconds for their memory."""
    for pid in [*dropped]:
        with contextlib.suppress(ChildProcessError):  # a signal came in between, and took note of this one
            if os.waitpid(pid, os.WNOHANG)[0]:
                dropped.discard(pid)


def fork(
    control: socket.socket, order: dict[str, object], descriptors: list[int], film: bytes, work: Work
) -> dict[str, int]:
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        return {"errno": error.errno or 0}
    finally:
        if os.getpid() == parent:
            for descriptor in descriptors:
                os.close(descriptor)
    if pid == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.detach()  # its number will be that of the child's own socket
            rehearsal.read(film)
            child.run(child.Order(**order), descriptors, parent, work)  # type: ignore[arg-type]  # as the parent sent it
        finally:
            os._exit(1)
    return {"pid": pid}


def import_all_of_av() -> None:
    """PyAV imports its modules when they are needed; in a child it is too late for that."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def warm_up() -> None:
    """Let FFmpeg fill the tables of its decoders, which each child would have to do again."""
    for name in (*VIDEO_DECODERS, *SOUND_DECODERS):
        with contextlib.suppress(av.FFmpegError):  # some want to see a file's headers
            decoder = CodecContext.create(name, "r")
            decoder.thread_count = 1
            decoder.open()


def threads_left(within_s: float) -> int:
    """Threads of this process once it has one, or after `within_s`; a fork of more than one may hang.

    FFmpeg ends the threads that it starts, but the kernel lists one that has been joined for a moment longer.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return 1
    until = time.monotonic() + within_s
    while (threads := len(list(tasks.iterdir()))) > 1 and time.monotonic() < until:
        time.sleep(0.001)
    return threads


if __name__ == "__main__":
    main()
