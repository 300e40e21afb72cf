"""The decoder that the service uses."""

from collections.abc import Iterator

import pytest

from models.inputs.media import media
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaLimits
from service.sandbox.sandbox import Sandbox, SandboxError

MEMORY_BYTES = 256 << 20
LEFT_S = 60.0


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox | None]:
    """The sandbox as this system can have it; None where there is none."""
    try:
        made = Sandbox(max_pixels=MediaLimits().max_pixels, memory_bytes=MEMORY_BYTES)
    except SandboxError:
        yield None
        return
    yield made
    made.close()


@pytest.fixture
def decoder(sandbox: Sandbox | None) -> Iterator[Decoder]:
    """A child in the sandbox, as a request has one; without a sandbox the same functions in this process."""
    if sandbox is None:
        yield media
        return
    with sandbox.decoder(LEFT_S) as child:
        yield child
