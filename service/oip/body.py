"""A request's body: its JSON, and behind it the bytes of its tensors, which go to the spool."""

import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.datastructures import Headers

from service.errors import MalformedRequest, TooLarge
from service.http.sent_once import sent_once
from service.uploads.upload import Spool

HEADER_LENGTH: Final = "inference-header-content-length"
MAX_JSON_BYTES: Final = 4 << 20
"""While Python reads JSON the process does nothing else; this much is read in less than 0.1 s."""
DIGITS: Final = re.compile(r"[0-9]{1,20}")


async def read_json(chunks: AsyncIterator[bytes], size: int | None) -> tuple[bytes, memoryview]:
    """The JSON of `size` bytes (None: the whole body), and what has already come of the bytes behind it.

    Raises TooLarge for more than `MAX_JSON_BYTES`, and MalformedRequest where the body ends within the JSON.
    """
    text = bytearray()
    async for chunk in chunks:
        if size is not None and len(text) + len(chunk) >= size:
            left = size - len(text)
            return bytes(text + chunk[:left]), memoryview(chunk)[left:]
        text += chunk
        if len(text) > MAX_JSON_BYTES:
            raise too_much_json()
    if size is not None:
        raise MalformedRequest(f"the body has {len(text)} bytes, but its JSON is said to have {size}")
    return bytes(text), memoryview(b"")


def json_size(headers: Headers, declared_bytes: int) -> int | None:
    """Inference-Header-Content-Length; None where the whole body, of `declared_bytes`, is JSON.

    Raises InvalidField where it was sent more than once, MalformedRequest, and TooLarge.
    """
    given = sent_once(headers, "Inference-Header-Content-Length")
    if given is not None and not DIGITS.fullmatch(given):
        raise MalformedRequest("Inference-Header-Content-Length is not a number of bytes")
    if (declared_bytes if given is None else int(given)) > MAX_JSON_BYTES:
        raise too_much_json()
    return None if given is None else int(given)


def too_much_json() -> TooLarge:
    return TooLarge(f"the JSON is larger than {MAX_JSON_BYTES} bytes; send large tensors as binary data behind it")


async def read_tensors(chunks: AsyncIterator[bytes], came: memoryview, expected_bytes: int, spool: Spool) -> None:
    """Store the bytes behind the JSON; MalformedRequest as soon as they are not as many as the JSON says."""
    refuse_surplus(len(came), expected_bytes)
    await spool.write(came)
    async for chunk in chunks:
        refuse_surplus(spool.size + len(chunk), expected_bytes)
        await spool.write(chunk)
    if spool.size < expected_bytes:
        raise MalformedRequest(f"{spool.size} bytes follow the JSON, which announces {expected_bytes}; {ADVICE}")
    await spool.finish()


ADVICE: Final = "Inference-Header-Content-Length tells where the JSON ends"


def refuse_surplus(got_bytes: int, expected_bytes: int) -> None:
    if got_bytes > expected_bytes:
        raise MalformedRequest(f"more bytes follow the JSON than the {expected_bytes} that it announces; {ADVICE}")
