import asyncio
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from models.inputs.media.container import MediaError, MediaLimits
from models.inputs.media.picture import decode_picture
from service.errors import ClientGone, TooLarge, UploadTooSlow
from service.sandbox.conversation import handed_over
from service.uploads.upload import READ_AHEAD_BYTES, BodyLimits, Pictures, Piece, Spool, read_body

CONTENT = random.Random(3).randbytes(200_000)


@pytest.fixture
def writers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def filled(folder: Path, memory_bytes: int, writers: ThreadPoolExecutor) -> Spool:
    spool = Spool(folder, memory_bytes, writers)
    for start in range(0, len(CONTENT), 7_000):
        await spool.write(CONTENT[start : start + 7_000])
    await spool.finish()
    return spool


@pytest.mark.parametrize("memory_bytes", [0, 50_000, 1 << 20])
def test_the_digest_is_that_of_all_bytes_wherever_they_lie(
    tmp_path: Path, writers: ThreadPoolExecutor, memory_bytes: int
) -> None:
    async def digest() -> bytes:
        spool = await filled(tmp_path, memory_bytes, writers)
        try:
            return await spool.digest()
        finally:
            spool.close()

    assert asyncio.run(digest()) == hashlib.blake2b(CONTENT, digest_size=32).digest()


def read(source: bytes | BinaryIO) -> bytes:
    return source if isinstance(source, bytes) else source.read()


@pytest.mark.parametrize("memory_bytes", [0, 50_000, 1 << 20])
def test_pieces_come_back_as_they_were_sent(tmp_path: Path, writers: ThreadPoolExecutor, memory_bytes: int) -> None:
    spool = asyncio.run(filled(tmp_path, memory_bytes, writers))
    pieces = [Piece(0, 10), Piece(6_990, 30), Piece(100_000, 100_000)]

    pictures = Pictures(spool, pieces)
    assert [read(picture) for picture in pictures] == [CONTENT[p.start : p.start + p.size] for p in pieces]
    assert read(pictures[1:][0]) == read(pictures[1])
    for piece in pieces:
        assert read(spool.source(piece)) == CONTENT[piece.start : piece.start + piece.size]
    spool.close()


def test_a_picture_on_the_disk_is_refused_by_its_size_unread_and_handed_over_where_it_lies(
    tmp_path: Path, writers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spooled() -> Spool:
        spool = Spool(tmp_path, 0, writers)
        await spool.write(b"before")
        await spool.write(b"\xff\xd8\xff" + bytes(3 << 20))
        await spool.finish()
        return spool

    pread, asked_bytes = os.pread, list[int]()
    monkeypatch.setattr("os.pread", lambda file, size, at: asked_bytes.append(size) or pread(file, size, at))
    spool = asyncio.run(spooled())
    assert spool.file is not None
    piece = Piece(6, spool.size - 6)
    pictures = Pictures(spool, [piece])

    with pytest.raises(MediaError, match="the picture has 3145731 bytes"):
        decode_picture(pictures[0], MediaLimits(max_pixels=1))
    with handed_over(pictures[0]) as place:
        assert place == (spool.file.fileno(), *piece)
    assert 0 < sum(asked_bytes) <= 2 * READ_AHEAD_BYTES
    spool.close()


def test_a_large_upload_leaves_nothing_to_see_in_the_folder(tmp_path: Path, writers: ThreadPoolExecutor) -> None:
    spool = asyncio.run(filled(tmp_path, 1000, writers))

    assert spool.file is not None
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_reader_seeks_like_a_file_and_has_no_name(tmp_path: Path, writers: ThreadPoolExecutor) -> None:
    spool = asyncio.run(filled(tmp_path, 0, writers))
    reader = spool.source(Piece(1_000, 500))

    assert not isinstance(reader, bytes)
    assert not hasattr(reader, "name")
    assert reader.seek(-100, 2) == 400
    assert reader.read() == CONTENT[1_400:1_500]
    assert reader.seek(10) == 10
    assert reader.read(5) == CONTENT[1_010:1_015]
    assert reader.seek(900) == 900
    assert reader.read() == b""
    spool.close()


class Client:
    """Sends chunks of a size, one every `pause_s`, and then falls silent or goes away."""

    def __init__(self, *sizes: int, pause_s: float = 0.0, then: str = "end") -> None:
        self.sizes = list(sizes)
        self.pause_s = pause_s
        self.then = then

    async def __call__(self) -> Any:
        await asyncio.sleep(self.pause_s)
        if self.sizes:
            more = len(self.sizes) > 1 or self.then != "end"
            return {"type": "http.request", "body": b"x" * self.sizes.pop(0), "more_body": more}
        if self.then == "silence":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


Receive = Callable[..., int]


@pytest.fixture
def received(timeless: Callable[..., None]) -> Receive:
    """`received(client, storing_s=…)`: how many bytes are read of it, by a clock that no busy machine holds up."""

    def receive(client: Client, slow_after_s: float = 0.2, storing_s: float = 0.0) -> int:
        sizes: list[int] = []

        async def read() -> None:
            clock = asyncio.get_running_loop().time
            async for chunk in read_body(client, BodyLimits(10_000, 1_000, slow_after_s), clock=clock):
                await asyncio.sleep(storing_s)
                sizes.append(len(chunk))

        timeless(read)
        return sum(sizes)

    return receive


def test_a_body_of_exactly_the_limit_is_read(received: Receive) -> None:
    assert received(Client(4_000, 6_000)) == 10_000


def test_the_first_byte_over_the_limit_is_refused(received: Receive) -> None:
    with pytest.raises(TooLarge, match="10000 bytes"):
        received(Client(4_000, 6_001))


def test_a_client_that_falls_silent_is_given_up(received: Receive) -> None:
    with pytest.raises(UploadTooSlow):
        received(Client(100, then="silence"))


def test_a_client_that_trickles_is_given_up(received: Receive) -> None:
    with pytest.raises(UploadTooSlow):
        received(Client(*[10] * 100, pause_s=0.02))


def test_a_client_at_twice_the_lowest_rate_is_waited_for(received: Receive) -> None:
    assert received(Client(*[40] * 20, pause_s=0.02)) == 800


def test_time_spent_on_storing_does_not_make_a_client_slow(received: Receive) -> None:
    assert received(Client(10, 10, 10), slow_after_s=0.05, storing_s=0.1) == 30


def test_a_client_that_leaves_ends_the_reading(received: Receive) -> None:
    with pytest.raises(ClientGone):
        received(Client(100, then="leave"))
