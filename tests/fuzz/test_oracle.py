"""What must be found is found: a check that cannot fail would be worth nothing."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from .campaign import Campaign
from .exchange import Answer, exchange
from .footprint import MOST_GROWTH, Footprint, descriptors, growth, threads
from .oracle import BUGS, judge
from .service import Service
from .wire import BINARY, END, TEXT, Input, close, handshake, load, request, said

WITHIN_S = 5.0
ASKED = Input("media", (request("POST", "/predict/pain", {}),))
STREAM = Input("stream", (handshake("/stream/pain", {}), END))
IDLE = Footprint(
    descriptors=20, threads=16, processes=2, anonymous_bytes=1 << 28, pss_bytes=1 << 28, spool_files=0, held=0.0
)
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def problem(status: int, code: str, detail: str = "what to do") -> dict[str, Any]:
    return {"type": "", "title": "", "status": status, "detail": detail, "instance": "", "code": code}


def reply(
    status: int, content: Any, kind: str = "application/problem+json", extra: str = "X-Request-ID: a\r\n"
) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def server_frame(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload)]) + payload


def closing(code: int, *texts: dict[str, Any]) -> bytes:
    frames = [server_frame(TEXT, json.dumps(text).encode()) for text in texts]
    return UPGRADED + b"".join(frames) + server_frame(8, code.to_bytes(2, "big"))


GOOD = {
    "an answer": (ASKED, reply(200, {"windows": []}, "application/json")),
    "a refusal": (ASKED, reply(422, problem(422, "no_face"))),
    "a refusal of /v2": (ASKED, reply(503, {"error": "busy"}, "application/json")),
    "lines": (ASKED, reply(200, b'{"type":"start"}\n{"type":"summary"}\n', "application/x-ndjson")),
    "lines with an error": (
        ASKED,
        reply(
            200,
            b'{"type":"start"}\n' + json.dumps({"type": "error", "problem": problem(422, "too_long")}).encode(),
            "application/x-ndjson",
        ),
    ),
    "a stream": (STREAM, closing(1000, {"type": "ready"}, {"type": "summary"})),
    "a stream with an error": (STREAM, closing(4400, {"type": "error", "problem": problem(400, "malformed_request")})),
}
BAD = {
    "500": (ASKED, reply(500, problem(500, "internal"))),
    "502": (ASKED, reply(502, problem(502, "internal"))),
    "500 to broken HTTP": (ASKED._replace(intact=False), b"HTTP/1.1 500 Internal Server Error\r\n\r\nInternal"),
    "500 of /v2": (ASKED, reply(500, {"error": "a bug"}, "application/json")),
    "a code that nobody knows": (ASKED, reply(422, problem(422, "strange"))),
    "a code of another status": (ASKED, reply(413, problem(413, "no_face"))),
    "a status that is not the answer's": (ASKED, reply(400, problem(422, "no_face"))),
    "an error in plain text": (ASKED, reply(400, b"Bad Request", "text/plain")),
    "an error without a detail": (ASKED, reply(422, {"status": 422, "code": "no_face"})),
    "a decoder's bug": (ASKED, reply(422, problem(422, "unreadable_media", min(BUGS)))),
    "a trace": (ASKED, reply(422, problem(422, "no_face", 'Traceback: File "/app/service/x.py"'))),
    "a path": (ASKED, reply(422, problem(422, "no_face", "in site-packages"))),
    "NaN": (ASKED, reply(200, b'{"value": NaN}', "application/json")),
    "half a body": (ASKED, reply(200, {"windows": []}, "application/json")[:-3]),
    "no answer": (ASKED, b""),
    "no HTTP": (ASKED, b"hello"),
    "no X-Request-ID": (ASKED, reply(200, {}, "application/json", extra="")),
    "lines without an end": (ASKED, reply(200, b'{"type":"start"}\n{"type":"window"}\n', "application/x-ndjson")),
    "a stream that failed": (STREAM, closing(4500, {"type": "error", "problem": problem(500, "internal")})),
    "a stream that crashed": (STREAM, closing(1011)),
    "a stream without a summary": (STREAM, closing(1000, {"type": "ready"})),
    "a stream without a close": (STREAM, UPGRADED),
    "a stream that speaks bytes": (STREAM, UPGRADED + server_frame(BINARY, b"x") + server_frame(8, b"\x03\xe8")),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_the_contract_promises_passes(name: str) -> None:
    given, received = GOOD[name]

    assert judge(given, Answer(received, True, 0.1), WITHIN_S).findings == []


@pytest.mark.parametrize("name", BAD)
def test_what_it_does_not_promise_is_found(name: str) -> None:
    given, received = BAD[name]

    assert judge(given, Answer(received, True, 0.1), WITHIN_S).findings != []


def test_a_connection_that_stays_open_is_found_whatever_was_answered() -> None:
    for received in (b"", reply(200, {}, "application/json")):
        assert "ended the connection" in judge(ASKED, Answer(received, False, 5.0), WITHIN_S).findings[0]


@pytest.mark.parametrize("field", Footprint._fields)
def test_each_thing_that_grows_is_found_just_beyond_what_is_allowed(field: str) -> None:
    most = getattr(MOST_GROWTH, field)
    at_limit, beyond = (IDLE._replace(**{field: getattr(IDLE, field) + most + more}) for more in (0, 1))

    assert growth(IDLE, at_limit) == []
    assert [sentence.split()[0] for sentence in growth(IDLE, beyond)] == [field]


def test_a_descriptor_and_a_thread_more_are_seen() -> None:
    """Of a process of its own: here the kernel may still list the threads of earlier tests."""
    grow = (
        "import os, threading; print(flush=True); input(); file = open(os.devnull);"
        "threading.Thread(target=threading.Event().wait, daemon=True).start(); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = descriptors(process.pid), threads(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        during = descriptors(process.pid), threads(process.pid)
        process.stdin.write(b"\n")

    assert during == (before[0] + 1, before[1] + 1)


@contextmanager
def answering(sent: bytes | None) -> Iterator[int]:
    """The port of a stand-in that gives every connection this answer; None: it never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                if sent is not None:
                    connection.sendall(sent)
                else:
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_a_service_that_fails_is_caught_through_its_socket_and_its_input_can_be_sent_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    with answering(reply(500, problem(500, "internal"))) as port:
        campaign = Campaign(cast(Service, SimpleNamespace(port=port)), folder)
        found = campaign.send(ASKED, "media-1-1")

    assert len(found) == 1
    assert (campaign.count, campaign.findings.total()) == (1, 1)
    assert load(folder / "found" / "media-1-1.json") == ASKED


def test_a_service_that_hangs_is_caught_through_its_socket() -> None:
    with answering(None) as port:
        answer = exchange(port, ASKED, 0.2)

    assert judge(ASKED, answer, 0.2).outcome == "hang"


def test_a_service_that_is_not_there_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    assert judge(ASKED, exchange(port, ASKED, WITHIN_S), WITHIN_S).findings == ["the service takes no connection"]


def test_errors_in_the_log_are_complaints_and_requests_are_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("service")
    lines = [
        "pkdot: pkdot 0.1.0 is ready",
        json.dumps({"level": "INFO", "message": "request"}),
        json.dumps({"level": "ERROR", "message": "request a failed", "exception": "ValueError"}),
        "Fatal Python error: Segmentation fault",
    ]
    (folder / "log").write_text("\n".join(lines))
    service = Service(cast(Any, None), 0, folder)

    assert service.complaints() == [
        "the log says: request a failed ValueError",
        "the log says: Fatal Python error: Segmentation fault",
    ]


def test_frames_are_masked_and_say_their_length() -> None:
    for size in (5, 200, 70_000):
        sent = said("x" * size)
        length_bytes = {5: 0, 200: 2, 70_000: 8}[size]
        mask, payload = sent[2 + length_bytes : 6 + length_bytes], sent[6 + length_bytes :]

        assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) == json.dumps("x" * size).encode()
    assert close(1000)[:2] == bytes([0x88, 0x82])
