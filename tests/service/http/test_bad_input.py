"""Every row of the contract's table of errors, and more, through a real socket; and that nothing of it stays."""

import io
import json
import random
import resource
import socket
import threading
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.settings import Settings

from .raw_http import URL, Reply, form, part, post, read_reply, talk

BOTH = "/predict/valence-arousal"
RELOAD = "/admin/bundles/reload"
MAX_UPLOAD_BYTES = 3 << 20
NOT_A_VIDEO = part("video", b"not a video", "a")
POOLS = ("side", "decode", "device", "asyncio", "ThreadPoolExecutor")
"""Threads that are there to stay, and come when they are needed first."""
Eventually = Callable[[Callable[[], bool]], None]


class Row(NamedTuple):
    """What is sent, and the status and code that it gets."""

    sent: bytes
    expected: tuple[int, str]
    half_close: bool = False


def fields(**texts: str) -> bytes:
    return form(part("frames", b"x", "a"), *(part(name, text.encode()) for name, text in texts.items()))


def sound(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(2 * round(16_000 * seconds)))
    return file.getvalue()


def chunked(*chunks: bytes) -> bytes:
    head = post(b"", "Transfer-Encoding: chunked", "Connection: close").replace(b"Content-Length: 0\r\n", b"")
    return head + b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def closing(body: bytes, *headers: str, path: str = URL, length: int | None = None) -> bytes:
    return post(body, "Connection: close", *headers, path=path, length=length)


MALFORMED, TOO_LARGE, BAD_FIELD = (400, "malformed_request"), (413, "too_large"), (422, "invalid_field")
UNSUPPORTED = (415, "unsupported_media")
TABLE = {
    "no form at all": Row(closing(b"hello"), MALFORMED),
    "a form without its end": Row(closing(form(NOT_A_VIDEO)[:-4]), MALFORMED),
    "another boundary": Row(closing(form(NOT_A_VIDEO).replace(b"edge", b"side")), MALFORMED),
    "a part without a name": Row(closing(form(NOT_A_VIDEO.replace(b'name="video"; ', b""))), MALFORMED),
    "a part without an end of its headers": Row(closing(b"--edge\r\nContent-Disposition: form-data"), MALFORMED),
    "a part with endless headers": Row(closing(b"--edge\r\nX-Long: " + b"x" * 100_000), MALFORMED),
    "a part with many headers": Row(closing(b"--edge\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n"), MALFORMED),
    "noise": Row(closing(random.Random(1).randbytes(100_000)), MALFORMED),
    "a body shorter than it says": Row(closing(form(NOT_A_VIDEO), length=100_000), MALFORMED, half_close=True),
    "a body that is empty but for its length": Row(closing(b"", length=100), MALFORMED, half_close=True),
    "chunks without the last": Row(chunked(form(NOT_A_VIDEO)), MALFORMED, half_close=True),
    "a chunk that is cut": Row(chunked(form(NOT_A_VIDEO))[:-30], MALFORMED, half_close=True),
    "a body longer than it says": Row(
        post(form(NOT_A_VIDEO) + b"x" * 1000, length=len(form(NOT_A_VIDEO))), UNSUPPORTED
    ),
    "a form that goes on behind its length": Row(post(form(NOT_A_VIDEO), length=80), MALFORMED),
    "no token": Row(closing(b"", path=RELOAD), (401, "unauthenticated")),
    "another token": Row(closing(b"", "Authorization: Bearer guess", path=RELOAD), (403, "forbidden")),
    "no such address": Row(closing(b"", path="/nothing"), (404, "not_found")),
    "no such method": Row(closing(b"").replace(b"POST", b"PUT"), (405, "method_not_allowed")),
    "a length over the limit": Row(closing(b"", length=MAX_UPLOAD_BYTES + 1), TOO_LARGE, half_close=True),
    "a length of 20 digits": Row(closing(b"", length=10**19), TOO_LARGE, half_close=True),
    "chunks over the limit": Row(chunked(*[b"x" * 65_536] * 49), MALFORMED, half_close=True),
    "a file over the limit in chunks": Row(
        chunked(NOT_A_VIDEO[:-2], *[b"x" * 65_536] * 49, b"\r\n--edge--\r\n"), TOO_LARGE, half_close=True
    ),
    "10,000 fields": Row(closing(form(*[part("hop_s", b"1")] * 10_000)), TOO_LARGE),
    "10,000 unknown fields": Row(closing(form(*[part(f"f{n}", b"1") for n in range(10_000)])), TOO_LARGE),
    "JSON": Row(closing(b"{}").replace(b"multipart/form-data; boundary=edge", b"application/json"), UNSUPPORTED),
    "a file of no known kind": Row(closing(form(NOT_A_VIDEO)), UNSUPPORTED),
    "two videos": Row(closing(form(NOT_A_VIDEO, NOT_A_VIDEO)), BAD_FIELD),
    "a field twice": Row(closing(form(NOT_A_VIDEO, part("hop_s", b"1"), part("hop_s", b"2"))), BAD_FIELD),
    "unknown fields": Row(closing(form(NOT_A_VIDEO, part("speed", b"2"), part("mood", b"good"))), BAD_FIELD),
    "no field": Row(closing(form()), BAD_FIELD),
    "a field of a megabyte": Row(closing(form(NOT_A_VIDEO, part("bundle", b"x" * 1_000_000))), BAD_FIELD),
    "a field that is no text": Row(closing(form(NOT_A_VIDEO, part("bundle", b"\xff\xfe\0"))), BAD_FIELD),
    "video with frames": Row(closing(form(NOT_A_VIDEO, part("frames", b"x", "a"))), BAD_FIELD),
    "fps with video": Row(closing(form(NOT_A_VIDEO, part("fps", b"25"))), BAD_FIELD),
    "an empty video": Row(closing(form(part("video", b"", "a"))), BAD_FIELD),
    "a bundle of the other task": Row(closing(form(NOT_A_VIDEO, part("bundle", b"affect-test"))), BAD_FIELD),
    "a timeout that is no number": Row(closing(form(NOT_A_VIDEO), "X-Request-Timeout: soon"), BAD_FIELD),
    "two timeouts": Row(closing(form(NOT_A_VIDEO), "X-Request-Timeout: 5", "X-Request-Timeout: 50"), BAD_FIELD),
    "one timeout twice": Row(closing(form(NOT_A_VIDEO), "X-Request-Timeout: 5", "X-Request-Timeout: 5"), BAD_FIELD),
    "two types": Row(closing(form(NOT_A_VIDEO), "Content-Type: multipart/form-data; boundary=side"), BAD_FIELD),
    "a silent sound": Row(closing(form(part("audio", sound(2.0), "a")), path=BOTH), (422, "no_usable_modality")),
    "a short sound": Row(closing(form(part("audio", sound(0.1), "a")), path=BOTH), (422, "too_short")),
    "sound alone for pain": Row(closing(form(part("video", sound(2.0), "a"))), (422, "no_face")),
    "too little time": Row(closing(form(NOT_A_VIDEO), "X-Request-Timeout: 1e-9"), (504, "deadline_exceeded")),
} | {
    f"fps of {value}": Row(closing(fields(fps=value)), BAD_FIELD)
    for value in ("0", "-0", "-1", "NaN", "1e309", "-inf", "fast", "", "240.001", "0x19", "1_0", "٢٥", "9" * 1000)
}


def has_spare(live: Any) -> bool:
    """Whether the decoder for the next request, with its descriptors, is there."""
    sandbox = live.server.lifecycle.resources.sandbox
    return sandbox is None or (sandbox.spare.next is not None and sandbox.spare.next.done())


@contextmanager
def bad_input_server(
    bundles: Path, open_server: Callable[[Settings], AbstractContextManager[Any]], slow_upload_after_s: float
) -> Iterator[Any]:
    settings = Settings.model_validate(
        {
            "bundles": bundles,
            "port": 0,
            "max_upload_bytes": MAX_UPLOAD_BYTES,
            "spool_memory_bytes": 10_000,
            "slow_upload_after_s": slow_upload_after_s,
            "admin_token": "the-token-of-this-test",
        }
    )
    with open_server(settings) as live:
        yield live


@pytest.fixture(scope="module")
def live(bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]) -> Iterator[Any]:
    # a busy machine may hold up a client for more than a second, and that is not what is tried
    with bad_input_server(bundles_folder, open_server, 60.0) as live:
        yield live


def outcome(replies: list[Reply]) -> tuple[int, str]:
    """Status and code of the one answer that came."""
    (reply,) = replies
    assert reply.headers["content-type"] == "application/problem+json"
    problem = json.loads(reply.body)
    assert problem["status"] == reply.status
    return reply.status, problem["code"]


def answer(port: int, row: Row) -> tuple[int, str]:
    return outcome(talk(port, row.sent, half_close=row.half_close))


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_gets_what_the_contract_says(live: Any, name: str) -> None:
    assert answer(live.port, TABLE[name]) == TABLE[name].expected


def test_a_damaged_recording_and_too_long_ones(live: Any, clips: Path, face_clip: bytes) -> None:
    picture = part("frames", (clips / "single_face.jpg").read_bytes(), "a")
    damaged = form(part("video", face_clip[:4000], "a"))
    slow = form(picture, picture, part("fps", b"0.001"))
    late = form(part("video", face_clip, "a"), part("start_s", b"100"))

    assert outcome(talk(live.port, closing(damaged))) == (422, "unreadable_media")
    assert outcome(talk(live.port, closing(slow))) == (422, "too_long")
    assert outcome(talk(live.port, closing(late))) == BAD_FIELD


def test_a_body_that_comes_a_byte_a_second_is_given_up(
    bundles_folder: Path, open_server: Callable[[Settings], AbstractContextManager[Any]]
) -> None:
    body, stopping = form(NOT_A_VIDEO), threading.Event()
    with (
        bad_input_server(bundles_folder, open_server, 1.0) as live,
        socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection,
    ):
        connection.sendall(closing(body)[: -len(body)])

        def trickle() -> None:
            for byte in body:
                if stopping.wait(1.0):
                    return
                connection.sendall(bytes([byte]))

        with ThreadPoolExecutor(1) as sender, connection.makefile("rb") as file:
            sent = sender.submit(trickle)
            reply = read_reply(file)
            stopping.set()
            sent.result()

    assert reply is not None
    assert outcome([reply]) == (408, "upload_too_slow")


def test_while_nothing_is_loaded_predictions_are_not_ready(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.server.lifecycle, "resources", None)

    assert outcome(talk(live.port, closing(form(NOT_A_VIDEO)))) == (503, "not_ready")


def test_a_full_disk_is_told_apart_from_a_full_service(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = form(part("video", b"x" * 500_000, "a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert outcome(talk(live.port, closing(file))) == (507, "spool_full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(live.server.lifecycle.resources.admission, "max_spool_bytes", 400_000)
    (reply,) = talk(live.port, closing(file))
    assert outcome([reply]) == (503, "overloaded")
    assert 1 <= int(reply.headers["retry-after"]) <= 60


def test_predicted_work_of_running_uploads_is_refused_at_the_headers(live: Any, eventually: Eventually) -> None:
    admission = live.server.lifecycle.resources.admission
    rate, queued_s, max_queue_s = admission.work_rate, admission.queued_s, admission.max_queue_s
    assert queued_s(live.server.lifecycle.resources.shelf.find("pain").recordings, None) < max_queue_s
    body = form(part("video", b"x" * 100_000, "a"))
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_connection(("127.0.0.1", live.port), timeout=60) as first,
        socket.create_connection(("127.0.0.1", live.port), timeout=60) as second,
    ):
        patch.setattr(rate, "predict", lambda kind, size: size * 1e-3 if kind == "pain" else 0.0)
        first.sendall(closing(body)[:500])
        eventually(lambda: coming_s(live) > 100)
        second.sendall(closing(body, "Expect: 100-continue")[: -len(body)])
        with second.makefile("rb") as file:
            reply = read_reply(file)

    assert reply is not None
    assert outcome([reply]) == (503, "overloaded")
    assert 60 <= int(reply.headers["retry-after"]) <= 60
    eventually(lambda: admission.at_work == 0)
    assert coming_s(live) == 0


def coming_s(live: Any) -> float:
    """Predicted work of all uploads on their way."""
    return sum(place.coming_s for place in live.server.lifecycle.resources.admission.places)


def held(live: Any) -> dict[str, float]:
    """What one request could leave behind."""
    resources = live.server.lifecycle.resources
    return {
        "places": resources.admission.at_work,
        "bytes": resources.admission.spool_bytes,
        "predicted": coming_s(live),
        "recordings": len(resources.pipeline.decoders.unfinished),
        "windows": resources.batcher.queue_items,
        "connections": len(live.server.server_state.connections),
        "tasks": len(live.server.server_state.tasks),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": sum(not thread.name.startswith(POOLS) for thread in threading.enumerate()),
    }


def test_the_whole_table_at_once_leaves_nothing_behind(
    bundles_folder: Path,
    open_server: Callable[[Settings], AbstractContextManager[Any]],
    eventually: Eventually,
) -> None:
    rows = list(TABLE.items())
    with bad_input_server(bundles_folder, open_server, 60.0) as live, ThreadPoolExecutor(8) as clients:

        def all_rows() -> dict[str, tuple[int, str]]:
            return dict(zip(TABLE, clients.map(lambda row: answer(live.port, row[1]), rows), strict=True))

        def vanish(seed: int) -> None:
            chance = random.Random(seed)
            sent = chance.choice(rows)[1].sent
            with socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection:
                connection.sendall(sent[: chance.randrange(len(sent))])

        def quiet() -> bool:
            now = held(live)
            names = ("places", "recordings", "windows", "connections", "tasks")
            return has_spare(live) and not any(now[name] for name in names)

        all_rows()  # all threads and files that are there to stay
        eventually(quiet)
        before = held(live)
        assert all_rows() == {name: row.expected for name, row in rows}
        list(clients.map(vanish, range(60)))
        eventually(quiet)

        eventually(lambda: all(now <= before[name] for name, now in held(live).items()))
