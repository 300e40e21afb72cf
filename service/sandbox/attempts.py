"""What a child must not be able to do, tried by itself before it sees a byte of a stranger's."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Final


def open_file() -> None:
    os.close(os.open("/dev/null", os.O_RDONLY))  # a file that every user may open


def open_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(("127.0.0.1", 9))


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def signal() -> None:
    os.kill(os.getppid(), 0)


ATTEMPTS: Final[dict[str, Callable[[], None]]] = {
    "open": open_file,
    "socket": open_socket,
    "connect": connect,
    "fork": fork,
    "signal": signal,
}


def try_everything() -> dict[str, str]:
    """Each attempt, and the name of the error that stopped it; "" where nothing did."""
    return {name: stopped_by(step) for name, step in ATTEMPTS.items()}


def stopped_by(step: Callable[[], None]) -> str:
    try:
        step()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "unknown")
    return ""
