"""What of an answer goes out together."""

import asyncio

import pytest

from service.http.head_with_body import JOIN_BYTES, HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written; `None` is the end."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes | None] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent.append(data)

    def is_closing(self) -> bool:
        return None in self.sent

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.sent.append(None)


@pytest.fixture
def transport() -> Transport:
    return Transport()


def test_the_head_goes_with_the_first_of_the_body(transport: Transport) -> None:
    writer = HeadWithBody(transport)
    for piece in (HEAD, b"one", b"two"):
        writer.write(piece)

    assert transport.sent == [HEAD + b"one", b"two"]


def test_a_body_that_looks_like_a_head_is_not_held_back(transport: Transport) -> None:
    writer = HeadWithBody(transport)
    for piece in (HEAD, b"one", HEAD):
        writer.write(piece)

    assert transport.sent == [HEAD + b"one", HEAD]


def test_an_empty_first_piece_sends_the_head(transport: Transport) -> None:
    writer = HeadWithBody(transport)
    writer.write(HEAD)
    writer.write(b"")

    assert transport.sent == [HEAD]


def test_a_large_piece_is_not_copied(transport: Transport) -> None:
    writer, large = HeadWithBody(transport), bytes(JOIN_BYTES + 1)
    writer.write(HEAD)
    writer.write(large)

    assert transport.sent == [HEAD, large]
    assert transport.sent[1] is large


def test_what_no_body_follows_goes_at_once(transport: Transport) -> None:
    writer = HeadWithBody(transport)
    proceed = b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(proceed)
    writer.write(HEAD)
    writer.answered()
    writer.write(HEAD)
    writer.close()

    assert transport.sent == [proceed, HEAD, HEAD, None]
