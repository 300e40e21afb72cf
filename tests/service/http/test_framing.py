"""What two servers in a row could read differently is refused, and nothing behind it is answered (RFC 9112)."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings

from .raw_http import Reply, form, part, post, read_reply, statuses, talk

HEAD = "POST /nothing HTTP/1.1\r\nHost: test\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
BEHIND = "GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"

REFUSED = {
    "both lengths": HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "one length twice": HEAD + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": HEAD + "Content-Length: 5, 5\r\n\r\nhello",
    "a length with a plus": HEAD + "Content-Length: +5\r\n\r\nhello",
    "a negative length": HEAD + "Content-Length: -5\r\n\r\nhello",
    "a length with a space": HEAD + "Content-Length: 1 5\r\n\r\nhello",
    "an underlined length": HEAD + "Content-Length: 1_0\r\n\r\nhello",
    "a hexadecimal length": HEAD + "Content-Length: 0x5\r\n\r\nhello",
    "no length in Content-Length": HEAD + "Content-Length: \r\n\r\n",
    "a length beyond 64 bits": HEAD + "Content-Length: 18446744073709551621\r\n\r\nhello",
    "a vertical tab before a length": HEAD + "Content-Length: \x0b5\r\n\r\nhello",
    "a folded header": HEAD + "X-Long: a\r\n b\r\n\r\n",
    "a folded length": HEAD + "Content-Length:\r\n 5\r\n\r\nhello",
    "a folded encoding": HEAD + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a space before the first header": "GET / HTTP/1.1\r\n Host: test\r\n\r\n",
    "a space before a colon": HEAD + "Content-Length : 5\r\n\r\nhello",
    "lines that end in LF": (HEAD + "\r\n").replace("\r\n", "\n"),
    "one line that ends in LF": HEAD + "X-A: a\nX-B: b\r\n\r\n",
    "headers that end in LF": HEAD + "X-A: a\r\n\n",
    "a bare CR in a header": HEAD + "X-A: a\rX-B: b\r\n\r\n",
    "a NUL in a header": HEAD + "X-A: a\0b\r\n\r\n",
    "a header without a name": HEAD + ": b\r\n\r\n",
    "a header without a colon": HEAD + "Content-Length\r\n\r\n",
    "an encoding of another name": HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding in quotes": HEAD + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "no encoding in Transfer-Encoding": HEAD + "Transfer-Encoding: \r\n\r\n0\r\n\r\n",
    "the identity encoding": HEAD + "Transfer-Encoding: identity\r\n\r\n",
    "chunks that are packed": HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an encoding behind chunks": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in chunks": HEAD + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two encodings": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace("1.1", "1.0") + "0\r\n\r\n",
    "no host": "GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts": "GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no version": "GET /health/live\r\n\r\n",
    "HTTP/0.9": "GET /health/live HTTP/0.9\r\nHost: test\r\n\r\n",
    "HTTP/2.0": "GET /health/live HTTP/2.0\r\nHost: test\r\n\r\n",
    "HTTP/2's preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": "CONNECT inside:22 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a tunnel to a path": "CONNECT /health/live HTTP/1.1\r\nHost: test\r\n\r\n",
    "a fragment": "GET /health/live#/../metrics HTTP/1.1\r\nHost: test\r\n\r\n",
    "a space in the address": "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n",
    "a control character in the address": "GET /a\x01b HTTP/1.1\r\nHost: test\r\n\r\n",
    "an unknown method": "BREW / HTTP/1.1\r\nHost: test\r\n\r\n",
    "a body behind an offer of another protocol": HEAD
    + "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 40\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
BROKEN_CHUNKS = {
    "a plus": "+5\r\nhello\r\n0\r\n\r\n",
    "a minus": "-5\r\nhello\r\n0\r\n\r\n",
    "a prefix": "0x5\r\nhello\r\n0\r\n\r\n",
    "a space before": " 5\r\nhello\r\n0\r\n\r\n",
    "a space behind": "5 \r\nhello\r\n0\r\n\r\n",
    "nothing": "\r\nhello\r\n0\r\n\r\n",
    "17 digits": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "LF": "5\nhello\r\n0\r\n\r\n",
    "LF behind an extension": "5;a\nhello\r\n0\r\n\r\n",
    "CR in an extension": "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": "5;a\0b\r\nhello\r\n0\r\n\r\n",
    "LF behind the chunk": "5\r\nhello\n0\r\n\r\n",
    "nothing behind the chunk": "5\r\nhello0\r\n\r\n",
    "a length as a trailer": "0\r\nContent-Length: 5\r\n\r\n",
    "an endless extension": "5;" + "a" * 600_000,
    "an endless trailer": "0\r\nX-Long: " + "a" * 600_000,
}


@pytest.fixture(scope="module")
def port(bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]) -> Iterator[int]:
    with open_server(Settings(bundles=bundles_folder, port=0)) as live:
        yield live.port


def is_bare_400(replies: list[Reply]) -> bool:
    return (
        statuses(replies) == [400]
        and replies[0].headers["content-type"].startswith("text/plain")
        and replies[0].headers["connection"] == "close"
    )


@pytest.mark.parametrize("shape", REFUSED)
def test_what_could_be_read_in_two_ways_gets_a_bare_400_and_the_end(port: int, shape: str) -> None:
    assert is_bare_400(talk(port, (REFUSED[shape] + BEHIND).encode("latin-1")))


@pytest.mark.parametrize("size", BROKEN_CHUNKS)
def test_broken_chunks_end_the_connection(port: int, size: str) -> None:
    predict = CHUNKED.replace("/nothing", "/predict/pain").replace(
        "\r\n\r\n", "\r\nContent-Type: multipart/form-data; boundary=edge\r\n\r\n"
    )
    for head in (CHUNKED, predict):
        replies = talk(port, (head + BROKEN_CHUNKS[size] + BEHIND).encode("latin-1"))

        assert statuses(replies) in ([400], [404])
        assert replies[0].headers["connection"] == "close"


def test_headers_over_64_kb_get_a_bare_400_in_whatever_pieces_they_come(port: int) -> None:
    long = BEHIND.replace("\r\n\r\n", "\r\nX-Long: " + "x" * 100_000 + "\r\n\r\n").encode()
    many = BEHIND.replace("\r\n\r\n", "\r\n" + "a:b\r\n" * 35_000 + "\r\n").encode()
    address = BEHIND.replace("/health/live", "/" + "a" * 70_000).encode()

    for whole in (long, many, address):
        assert is_bare_400(talk(port, whole))
        assert is_bare_400(talk(port, *(whole[at : at + 9_000] for at in range(0, len(whole), 9_000))))


def test_blanks_behind_a_value_are_no_part_of_it(port: int) -> None:
    body = form(part("video", b"not a video", "a"))
    blank = (
        post(body, "X-Request-Timeout: 5 ", "Idempotency-Key: k\t", "X-Request-ID: a \t ")
        .replace(b"Host: test", b"Host: test ")
        .replace(b"%d\r\n" % len(body), b"%d \t\r\n" % len(body))
    )
    chunks = post(b"", "Transfer-Encoding: chunked ").replace(b"Content-Length: 0\r\n", b"")
    last = b"GET /health/live HTTP/1.1\r\nHost: test\r\nContent-Length: 0 \r\nConnection: close \r\n\r\n"

    replies = talk(port, blank + chunks + b"%X\r\n%b\r\n0\r\n\r\n" % (len(body), body) + last)

    assert statuses(replies) == [415, 415, 200]
    assert [json.loads(reply.body)["code"] for reply in replies[:2]] == ["unsupported_media"] * 2
    assert replies[0].headers["x-request-id"] == "a"


def test_headers_of_60_kb_are_read(port: int) -> None:
    close = "\r\nConnection: close\r\nX-Long: " + "x" * 60_000 + "\r\n\r\n"

    assert statuses(talk(port, BEHIND.replace("\r\n\r\n", close).encode())) == [200]


def test_well_formed_chunks_with_extensions_and_a_trailer_are_read(port: int) -> None:
    body = form(part("video", b"not a video", "a"))
    head = post(b"", "Transfer-Encoding: chunked", "Connection: close").replace(b"Content-Length: 0\r\n", b"")
    chunk = b'%X;a="b;c";d\r\n%b\r\n' % (len(body), body)

    (reply,) = talk(port, head + chunk + b"0\r\nX-Request-ID: late\r\n\r\n")
    assert (reply.status, json.loads(reply.body)["code"]) == (415, "unsupported_media")
    assert reply.headers["x-request-id"] != "late"


@pytest.mark.parametrize("answered", [True, False])
def test_lines_for_http_1_0_come_without_chunks_and_end_with_the_connection(
    port: int, clips: Path, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setattr("service.predict.ndjson.HELD_S", 600.0)
    name = "single_face.mp4" if answered else "no_face.mp4"
    body = form(part("video", (clips / name).read_bytes(), "a"))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(post(body, "Accept: application/x-ndjson").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        with connection.makefile("rb") as file:
            head, _, rest = file.read().partition(b"\r\n\r\n")

    status, *headers = head.decode().lower().split("\r\n")
    assert "connection: close" in headers
    assert not any(header.startswith("transfer-encoding") for header in headers)
    types = [json.loads(line).get("type") for line in rest.splitlines()]
    if answered:
        assert (status, types[0], types[-1]) == ("http/1.1 200 ok", "start", "summary")
        assert rest.endswith(b"\n")
    else:
        assert f"content-length: {len(rest)}" in headers
        assert json.loads(rest)["code"] == "no_face"


def test_requests_in_one_piece_are_answered_in_their_order(port: int) -> None:
    asked = [f"GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n" for name in ("health/live", "nothing", "health/ready")]
    last = "GET /models HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

    assert statuses(talk(port, ("".join(asked) + last + BEHIND).encode())) == [200, 404, 200, 200]


def test_a_whole_request_is_answered_before_the_broken_one_behind_it(port: int) -> None:
    assert statuses(talk(port, (BEHIND + "x y z\r\n\r\n" + BEHIND).encode())) == [200]


def test_a_flood_of_requests_in_one_piece_is_cut(port: int) -> None:
    assert len(talk(port, BEHIND.encode() * 5_000)) < 50


def test_an_offer_of_another_protocol_is_passed_over(port: int) -> None:
    offer = BEHIND.replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")

    assert statuses(talk(port, (offer + BEHIND).encode())) == [200]


def test_a_connection_that_only_sends_line_ends_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(BEHIND.encode())
        with connection.makefile("rb") as file:
            first = read_reply(file)
        assert first is not None
        assert first.status == 200
        monkeypatch.setattr("service.http.protocol.HEADERS_WITHIN_S", 0.3)
        connection.sendall(b"\r\n")
        begin_s = time.monotonic()
        assert connection.recv(1) == b""

    assert time.monotonic() - begin_s < 30  # an idle connection is kept for longer


def test_a_client_that_does_not_read_its_answer_is_given_up(
    bundles_folder: Path,
    open_server: Callable[[Settings], AbstractContextManager[Any]],
    eventually: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.http.protocol.UNREAD_S", 0.3)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"
    with open_server(Settings(bundles=bundles_folder, port=0)) as live, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", live.port))
        connection.setblocking(False)
        connections = live.server.server_state.connections

        def ask_on() -> bool:
            with contextlib.suppress(OSError):
                connection.send(ask * 10)
            return not connections

        eventually(lambda: bool(connections))
        eventually(ask_on)
        assert not connections


def test_who_only_half_closes_is_told_that_the_body_was_cut(port: int) -> None:
    body = form(part("video", b"x" * 100, "a"))
    for path in ("/predict/pain", "/nothing"):
        (reply,) = talk(port, post(body, path=path, length=len(body) + 10), half_close=True)

        expected = (400, "malformed_request") if path == "/predict/pain" else (404, "not_found")
        assert (reply.status, json.loads(reply.body)["code"]) == expected
