"""What a client may do wrong, and what it is told."""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from service.settings import Settings

VIDEO = {"video": {"fps": 10}}
AUDIO = {"audio": {"sample_rate": 16_000, "channels": 1}}
HEAD = struct.Struct("<BQ")


def told(client: Any) -> tuple[int, str, int]:
    """Status and code of the problem that a stream ends with, and the close code."""
    heard, close_code = client.hear_all()
    assert heard[-1]["type"] == "error", heard
    problem = heard[-1]["problem"]
    assert problem["instance"].startswith("urn:pkdot:request:")
    return problem["status"], problem["code"], close_code


@pytest.mark.parametrize(
    ("first", "status", "code"),
    [
        (b"\x01\x00", 400, "malformed_request"),
        ("hello", 400, "malformed_request"),
        ("[" * 100_000, 400, "malformed_request"),
        ("[]", 400, "malformed_request"),
        ("{}", 400, "malformed_request"),
        ({"type": "end"}, 400, "malformed_request"),
        ({"type": "hello"}, 422, "invalid_field"),
        ({"type": "hello", **VIDEO, "colour": "red"}, 422, "invalid_field"),
        ({"type": "hello", "video": {"fps": 10, "codec": "h264"}}, 422, "invalid_field"),
        ({"type": "hello", "video": {"fps": 0}}, 422, "invalid_field"),
        ({"type": "hello", "video": {"fps": 5e-324}}, 422, "invalid_field"),
        ({"type": "hello", "video": {"fps": 0.039}}, 422, "invalid_field"),
        ({"type": "hello", "video": {"fps": "10"}}, 422, "invalid_field"),
        ('{"type": "hello", "video": {"fps": NaN}}', 422, "invalid_field"),
        ('{"type": "hello", "video": {"fps": 1e999}}', 422, "invalid_field"),
        ({"type": "hello", **AUDIO}, 422, "invalid_field"),
        ({"type": "hello", "audio": {"sample_rate": 16_000, "channels": 0}, **VIDEO}, 422, "invalid_field"),
        ({"type": "hello", "audio": {"sample_rate": 10**9, "channels": 1}, **VIDEO}, 422, "invalid_field"),
        ({"type": "hello", **VIDEO, "bundle": "nobody"}, 422, "invalid_field"),
        ({"type": "hello", **VIDEO, "bundle": "affect-test"}, 422, "invalid_field"),
        ({"type": "hello", **VIDEO, "hop_s": 0}, 422, "invalid_field"),
        ({"type": "hello", **VIDEO, "face": "prettiest"}, 422, "invalid_field"),
    ],
)
def test_a_bad_hello_is_a_problem(
    live: Any, talk: Callable[..., Any], first: bytes | str | dict[str, Any], status: int, code: str
) -> None:
    with talk(live.port, "pain") as client:
        client.socket.send(json.dumps(first) if isinstance(first, dict) else first)

        assert told(client) == (status, code, 4000 + status)


def test_a_wrong_field_is_named_and_its_value_is_not_quoted(live: Any, talk: Callable[..., Any]) -> None:
    with talk(live.port, "pain", {**VIDEO, "token": ["secret-token"], "colour": "red"}) as client:
        (heard,), _ = client.hear_all()

    assert {error["field"] for error in heard["problem"]["errors"]} == {"token", "colour"}
    assert "secret" not in json.dumps(heard)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (HEAD.pack(3, 0) + b"x", 400, "malformed_request"),
        (HEAD.pack(2, 0) + b"xx", 400, "malformed_request"),
        (HEAD.pack(1, 0), 400, "malformed_request"),
        (b"\x01\x00\x00", 400, "malformed_request"),
        (b"", 400, "malformed_request"),
        ("garbage", 400, "malformed_request"),
        ('{"type": "pause"}', 400, "malformed_request"),
        ('{"type": "end", "now": true}', 400, "malformed_request"),
        (HEAD.pack(1, 0) + b"\x89PNG\r\n\x1a\n" + bytes(99), 422, "unreadable_media"),
        (HEAD.pack(1, 0) + b"\xff\xd8\xff" + bytes(2_000), 413, "too_large"),
        ("x" * 1_500, 413, "too_large"),
    ],
)
def test_a_bad_message_is_a_problem(
    small: Any, talk: Callable[..., Any], sent: bytes | str, status: int, code: str
) -> None:
    with talk(small.port, "pain", VIDEO) as client:
        assert client.hear()["max_message_bytes"] == 1_200
        client.socket.send(sent)

        assert told(client) == (status, code, 4000 + status)


@pytest.fixture(scope="module")
def small(bundles_folder: Path, open_server: Callable[..., Any]) -> Iterator[Any]:
    """A service that takes messages of at most 1,200 bytes."""
    settings = {"bundles": bundles_folder, "port": 0, "max_stream_message_bytes": 1_200}
    with open_server(Settings.model_validate(settings)) as live:
        yield live


@pytest.mark.parametrize("size", [100_000, 4_000_000], ids=["that is sent at once", "that is still sent"])
def test_a_message_far_beyond_the_limit_is_not_read_and_its_sender_learns_why(
    size: int, small: Any, talk: Callable[..., Any]
) -> None:
    with talk(small.port, "pain", VIDEO) as client:
        client.hear()
        client.socket.send(bytes(size))
        heard, close_code = client.hear_all()

    assert (heard, close_code) == ([], 1009)


def test_a_message_of_endless_empty_parts_is_ended(small: Any, talk: Callable[..., Any]) -> None:
    with talk(small.port, "pain", VIDEO) as client:
        client.hear()
        with pytest.raises(ConnectionClosed):
            client.socket.send(b"" for _ in range(1_000_000))


def test_half_a_sample_is_a_problem(live: Any, talk: Callable[..., Any]) -> None:
    with talk(live.port, "valence-arousal", AUDIO) as client:
        client.hear()
        client.media(2, 0, b"xyz")

        assert told(client) == (400, "malformed_request", 4400)


@pytest.mark.parametrize("later_s", [31.0, 1e9])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_jump_of_the_capture_time_is_a_problem(
    live: Any, talk: Callable[..., Any], face_jpegs: list[bytes], later_s: float, backwards: bool
) -> None:
    with talk(live.port, "pain", VIDEO) as client:
        client.hear()
        for time_s in (later_s, 0.0) if backwards else (0.0, later_s):
            client.picture(time_s, face_jpegs[0])

        assert told(client) == (400, "malformed_request", 4400)


@pytest.mark.usefixtures("all_pictures_wait")
def test_a_hundred_damaged_pictures_in_a_row_are_a_problem(
    make_server: Callable[..., Any], talk: Callable[..., Any], face_jpegs: list[bytes]
) -> None:
    live = make_server(sandbox="off")
    with talk(live.port, "pain", {**VIDEO, "hop_s": 2.0}) as client:
        client.hear()
        with contextlib.suppress(ConnectionClosed):  # the hundredth may be refused while later ones are being sent
            for n in range(199):
                client.picture(n / 5, face_jpegs[0][:200])
        heard, code = client.hear_all()

    assert (heard[-1]["problem"]["code"], code) == ("unreadable_media", 4422)
    assert {window["reason"] for window in heard[:-1]} == {"undecodable"}


def test_a_picture_with_too_many_pixels_is_a_problem(
    make_server: Callable[..., Any], talk: Callable[..., Any], face_jpegs: list[bytes]
) -> None:
    live = make_server(max_pixels=10_000)
    with talk(live.port, "pain", VIDEO) as client:
        client.hear()
        client.picture(0, face_jpegs[0])
        client.say(type="end")

        assert told(client) == (413, "too_large", 4413)


def test_no_hello_is_a_problem(
    make_server: Callable[..., Any], talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stream.streams.HELLO_WITHIN_S", 0.2)
    with talk(make_server().port, "pain") as client:
        assert told(client) == (408, "upload_too_slow", 4408)


def test_no_media_is_a_problem(
    make_server: Callable[..., Any], talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stream.session.MEDIA_WITHIN_S", 0.2)
    with talk(make_server().port, "pain", VIDEO) as client:
        assert told(client) == (408, "upload_too_slow", 4408)


@pytest.mark.parametrize("subprotocols", [None, ["chat"]])
def test_another_subprotocol_is_refused_at_the_handshake(
    live: Any, talk: Callable[..., Any], subprotocols: list[str] | None
) -> None:
    with pytest.raises(InvalidStatus) as refused, talk(live.port, "pain", subprotocols=subprotocols):
        pass

    response = refused.value.response
    assert (response.status_code, json.loads(response.body or b"")["code"]) == (400, "malformed_request")
    assert response.headers["x-request-id"]


def test_a_foreign_origin_is_refused_at_the_handshake(live: Any, talk: Callable[..., Any]) -> None:
    with pytest.raises(InvalidStatus) as refused, talk(live.port, "pain", origin="https://elsewhere.example"):
        pass

    response = refused.value.response
    assert (response.status_code, json.loads(response.body or b"")["code"]) == (403, "forbidden")


def test_a_refused_handshake_is_no_error_in_the_log(
    live: Any, talk: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    for refused in ({"origin": "https://elsewhere.example"}, {"subprotocols": None}):
        with pytest.raises(InvalidStatus), talk(live.port, "pain", **refused):
            pass
    with talk(live.port, "pain", VIDEO) as client:  # by its answer, the ends of the others have been written
        assert client.hear()["type"] == "ready"

    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_text_that_is_no_text_closes_the_stream_and_is_no_error_in_the_log(
    live: Any, talk: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with talk(live.port, "pain") as client:
        client.socket.send(b"\xff\xfe", text=True)

        assert client.hear_all() == ([], 1007)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_its_own_and_a_listed_origin_may_open_streams(
    make_server: Callable[..., Any], talk: Callable[..., Any]
) -> None:
    live = make_server(allowed_origins="https://ward.example")
    for origin in (f"http://127.0.0.1:{live.port}", "https://ward.example"):
        with talk(live.port, "pain", VIDEO, origin=origin) as client:
            assert client.hear()["type"] == "ready"


@pytest.mark.parametrize(
    "path", ["/stream/joy", "/stream/pain/", "/", "/models", "/static-offline-docs/swagger-ui.css"]
)
def test_an_unknown_address_is_refused_at_the_handshake(live: Any, path: str) -> None:
    url = f"ws://127.0.0.1:{live.port}{path}"
    with pytest.raises(InvalidStatus) as refused, connect(url, subprotocols=[Subprotocol("pkdot.v1")], proxy=None):
        pass

    response = refused.value.response
    problem = json.loads(response.body or b"")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert (problem["status"], problem["code"]) == (404, "not_found")
    assert problem["detail"] == "no stream is at this address; there are /stream/pain and /stream/valence-arousal"
    assert problem["instance"] == f"urn:pkdot:request:{response.headers['x-request-id']}"


def test_headers_that_cannot_be_read_close_the_connection(live: Any, talk: Callable[..., Any]) -> None:
    cookie = {"Cookie": "x" * 20_000}
    with pytest.raises(InvalidMessage), talk(live.port, "pain", additional_headers=cookie):
        pass
