"""An upload on its way in: read no faster than it is stored, no longer than it is worth, no further than the limit."""

import asyncio
import errno
import io
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, overload

from starlette.types import Receive

from service.errors import ClientGone, NotReady, Overloaded, SpoolFull, TooLarge, UploadTooSlow
from service.threads.offload import offload
from service.uploads.piece_reader import PieceReader

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
READ_AHEAD_BYTES: Final = 1 << 16
DIGEST_BYTES: Final = 32
INLINE_BYTES: Final = 1 << 16
"""What is no larger is hashed at once: to wake a thread would take longer."""

logger = logging.getLogger("pkdot")


class BodyLimits(NamedTuple):
    """How large a body may be, and how slow."""

    max_bytes: int
    min_bytes_per_s: int
    slow_after_s: float


async def read_body(
    receive: Receive, limits: BodyLimits, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    """The body's chunks as they come.

    Raises TooLarge at the first byte over the limit, UploadTooSlow where too little came over `slow_after_s` of
    waiting for the client (time that we spend on storing does not count), ClientGone.
    """
    total, recent, waited_s = 0, 0, 0.0
    more = True
    while more:
        begin = clock()
        try:
            async with asyncio.timeout(limits.slow_after_s - waited_s):
                message = await receive()
        except TimeoutError:
            message = None
        waited_s += clock() - begin
        if message is not None:
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            total, recent = total + len(chunk), recent + len(chunk)
            if total > limits.max_bytes:
                raise too_large(limits.max_bytes)
            yield chunk
        if more and (message is None or waited_s >= limits.slow_after_s):
            if recent < limits.min_bytes_per_s * limits.slow_after_s:
                raise UploadTooSlow(
                    f"{recent} bytes came in {limits.slow_after_s:g} s; at least {limits.min_bytes_per_s} bytes a "
                    "second are expected; send a smaller file or use a faster connection"
                )
            recent, waited_s = 0, 0.0


def too_large(max_bytes: int) -> TooLarge:
    return TooLarge(
        f"the request is larger than {max_bytes} bytes; send a shorter or smaller recording, or cut it into parts"
    )


class Piece(NamedTuple):
    """Where one part lies in its request's spool."""

    start: int
    size: int


class Spool:
    """The bytes of one request: in memory first, then all of them in one unlinked file.

    Files are written in `executor`'s threads. Raises SpoolFull where the disk has no room, NotReady
    where it cannot be written at all.
    """

    def __init__(self, folder: Path, memory_bytes: int, executor: Executor) -> None:
        self.folder = folder
        self.memory_bytes = memory_bytes
        self.executor = executor
        self.size = 0
        self.unwritten: bytes | bytearray | memoryview = b""
        self.file: io.FileIO | None = None
        self.hashed = blake2b(digest_size=DIGEST_BYTES)
        """What was written out."""

    async def write(self, data: bytes | memoryview) -> None:
        if not self.unwritten:
            self.unwritten = data  # as it is: small bodies come in one piece
        else:
            if not isinstance(self.unwritten, bytearray):
                self.unwritten = bytearray(self.unwritten)
            self.unwritten += data
        self.size += len(data)
        if len(self.unwritten) > self.memory_bytes:
            await self.flush()

    def hold(self, data: bytes | memoryview) -> None:
        """Take all that there is to store at once, and keep it in memory."""
        self.unwritten, self.size = data, len(data)

    async def finish(self) -> None:
        """Make every piece readable; nothing may be written afterwards."""
        if self.file is not None and self.unwritten:
            await self.flush()

    async def flush(self) -> None:
        try:
            await offload(self.executor, self.write_out)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise SpoolFull("the service has no room left for uploads; try again later") from error
            if error.errno in NO_DESCRIPTOR:
                raise Overloaded("the service has too many files and connections open; try again soon", 1) from error
            logger.error("uploads cannot be written to %s: %s", self.folder, error.strerror)
            raise NotReady("the service cannot store uploads; send the request again, or to another replica") from error

    def write_out(self) -> None:
        if self.file is None:
            self.file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - `close` closes it
        self.hashed.update(self.unwritten)
        rest = memoryview(self.unwritten)
        try:
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        finally:
            rest.release()
        self.unwritten = b""

    async def digest(self) -> bytes:
        """BLAKE2b of all pieces one behind the other."""
        if len(self.unwritten) <= INLINE_BYTES:
            return self.digest_now()
        return await offload(self.executor, self.digest_now)

    def digest_now(self) -> bytes:
        hashed = self.hashed.copy()
        hashed.update(self.unwritten)
        return hashed.digest()

    def source(self, piece: Piece) -> bytes | BinaryIO:
        """A piece as the decoder takes it: bytes where they are in memory, else a reader without a name."""
        if self.file is None:
            return bytes(memoryview(self.unwritten)[piece.start : piece.start + piece.size])
        return io.BufferedReader(PieceReader(self.file.fileno(), piece.start, piece.size), READ_AHEAD_BYTES)

    def close(self) -> None:
        """Give the bytes back; a file in a thread, since to free a large one takes the disk its time."""
        self.unwritten = b""
        if self.file is not None:
            try:
                self.executor.submit(self.file.close)
            except RuntimeError:  # the threads have ended before this request
                self.file.close()


class Pictures(Sequence[bytes | BinaryIO]):
    """Pieces of a spool as the decoder takes them; none is read before that does."""

    def __init__(self, spool: Spool, pieces: Sequence[Piece]) -> None:
        self.spool = spool
        self.pieces = pieces

    @overload
    def __getitem__(self, index: int) -> bytes | BinaryIO: ...
    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...
    def __getitem__(self, index: int | slice) -> "bytes | BinaryIO | Pictures":
        if isinstance(index, slice):
            return Pictures(self.spool, self.pieces[index])
        return self.spool.source(self.pieces[index])

    def __len__(self) -> int:
        return len(self.pieces)
