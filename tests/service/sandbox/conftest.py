"""Real zygotes and children; those of hostile.py do what a stranger would make them do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from models.inputs.media.media import MediaLimits
from service.sandbox.process import COMMAND
from service.sandbox.sandbox import Sandbox, SandboxError

# the fixtures that draw recordings lie beside the tests of what reads them
from tests.models.inputs.conftest import barcode, tone, write_picture, write_sound, write_video

__all__ = ["barcode", "tone", "write_picture", "write_sound", "write_video"]

LIMITS = MediaLimits()
MEMORY_BYTES = 256 << 20
WAIT_S = 10.0
HOSTILE = Path(__file__).parent / "hostile.py"


def hostile_command(behaviour: str) -> tuple[str, ...]:
    return (sys.executable, "-s", "-P", str(HOSTILE), behaviour)


@pytest.fixture(scope="session")
def command_of() -> Callable[[str], tuple[str, ...]]:
    """The command of a zygote that behaves as hostile.py says."""
    return hostile_command


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """The sandbox as this system can have it."""
    try:
        made = Sandbox(max_pixels=LIMITS.max_pixels, memory_bytes=MEMORY_BYTES)
    except SandboxError as error:
        pytest.skip(f"this system has no sandbox: {error}")
    yield made
    made.close()


@pytest.fixture
def make_sandbox() -> Iterator[Callable[..., tuple[Sandbox, list[str]]]]:
    """`make_sandbox("crash")`: a sandbox of such children, and the causes of their ends."""
    with ExitStack() as stack:

        def make(behaviour: str | None = None, *, memory_bytes: int = MEMORY_BYTES) -> tuple[Sandbox, list[str]]:
            causes: list[str] = []
            command = COMMAND if behaviour is None else hostile_command(behaviour)
            try:
                made = Sandbox(max_pixels=1 << 20, memory_bytes=memory_bytes, on_exit=causes.append, command=command)
            except SandboxError as error:
                pytest.skip(f"this system has no sandbox: {error}")
            stack.callback(made.close)
            return made, causes

        yield make


@pytest.fixture
def wait_until_gone(eventually: Callable[..., None]) -> Callable[[int], None]:
    """Wait until a process has ended, reaped or not; fails after a while."""
    return lambda pid: eventually(lambda: not is_running(pid), within_s=WAIT_S)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
