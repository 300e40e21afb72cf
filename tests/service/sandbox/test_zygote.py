"""Children that end at the worst moment: the zygote, which all other requests need, goes on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from service.sandbox import wire, zygote


@pytest.fixture
def ended_child() -> Iterator[int]:
    """The number of a child of this process that has ended, and that nobody has taken note of."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    yield child.pid
    child.wait()


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, int]], None]]:
    """`serve(order)`: let a zygote's loop carry out one order in this process; raises what it raises."""
    before = signal.getsignal(signal.SIGCHLD)

    def one(order: dict[str, int]) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            with ours:
                wire.send(ours, order)
            zygote.serve(its, b"", lambda _: None)

    yield one
    signal.signal(signal.SIGCHLD, before)


def test_a_child_whose_end_is_noticed_while_it_is_dropped(
    serve: Callable[[dict[str, int]], None], ended_child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = os.kill

    def kill_late(pid: int, number: int) -> None:
        signal.raise_signal(signal.SIGCHLD)
        kill(pid, number)

    monkeypatch.setattr(os, "kill", kill_late)
    serve({"drop": ended_child})

    with pytest.raises(ChildProcessError):
        os.waitpid(ended_child, os.WNOHANG)


def test_a_child_that_another_signal_takes_note_of_first(ended_child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = {ended_child}
    wait = os.waitpid

    def wait_late(pid: int, options: int) -> tuple[int, int]:
        monkeypatch.setattr(os, "waitpid", wait)
        zygote.reap(dropped)
        return wait(pid, options)

    monkeypatch.setattr(os, "waitpid", wait_late)
    zygote.reap(dropped)

    assert dropped == set()


@pytest.mark.parametrize(("lasts_s", "within_s", "left"), [(0.1, 60.0, 1), (60.0, 0.1, 2)])
def test_a_thread_that_is_ending_is_waited_for_and_one_that_stays_is_counted(
    lasts_s: float, within_s: float, left: int
) -> None:
    code = (
        "import threading, time; from service.sandbox import zygote;"
        f"threading.Thread(target=time.sleep, args=({lasts_s},), daemon=True).start();"
        f"print(zygote.threads_left({within_s}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert int(printed) == left
