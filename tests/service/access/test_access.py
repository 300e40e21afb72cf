"""Who gets in, through the whole app."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from service.access.access import is_open
from service.access.keys import new_key
from service.settings import Settings
from tests import loopback

Open = Callable[[Settings], AbstractContextManager[Any]]
GUARDED = (
    ("POST", "/predict/pain"),
    ("POST", "/predict/valence-arousal"),
    ("GET", "/models"),
    ("GET", "/v2"),
    ("GET", "/v2/models/pain-test"),
    ("POST", "/v2/models/pain-test/infer"),
    ("GET", "/nothing"),
)
UNGUARDED = (
    "/health/live",
    "/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
)


@pytest.fixture
def make_client(bundles_folder: Path, open_client: Open) -> Iterator[Callable[..., TestClient]]:
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(
            open_client(Settings.model_validate({"bundles": bundles_folder} | values))
        )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer("pkdot_wrong"),
        {"Authorization": "Basic b3Blbi1zZXNhbWU="},
        {"Authorization": "Bearer ö".encode("latin-1")},
        [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
    ],
)
def test_without_a_key_everything_that_predicts_is_closed(
    make_client: Callable[..., TestClient], keys: Any, headers: Any
) -> None:
    client = make_client(api_keys_file=keys.file)
    for method, path in GUARDED:
        reply = client.request(method, path, headers=headers)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        body = reply.json()
        assert "error" in body if path.startswith("/v2") else body["code"] == "unauthenticated"
        assert reply.headers["x-request-id"]
    assert [client.get(path).status_code for path in UNGUARDED] == [200] * len(UNGUARDED)
    assert 'pkdot_refused_total{code="unauthenticated"} 7.0' in client.get("/metrics").text


def test_every_route_is_closed_unless_it_is_known_to_be_open(make_client: Callable[..., TestClient], keys: Any) -> None:
    client = make_client(api_keys_file=keys.file, admin_token="open-sesame")
    app: Any = client.app
    http = {route.path for route in app.routes if isinstance(route, Route | Mount) and is_open(route.path + "/")}
    streams = {route.path for route in app.routes if isinstance(route, WebSocketRoute)}

    known = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/static-offline-docs", "/page"}
    assert http - {"/admin/bundles/reload"} <= known
    assert streams - {"/{path:path}"} == {"/stream/pain", "/stream/valence-arousal"}  # the pattern lets nobody in


def test_with_a_key_all_is_as_without_keys(make_client: Callable[..., TestClient], keys: Any, clips: Path) -> None:
    client = make_client(api_keys_file=keys.file)
    picture = {"frames": (clips / "single_face.jpg").read_bytes()}

    assert client.post("/predict/pain", files=picture, headers=bearer(keys.free)).status_code == 200
    assert client.get("/v2/models/pain-test", headers={"authorization": f"bEARER {keys.free}"}).status_code == 200
    assert client.get("/models", headers=bearer(keys.limited)).status_code == 200


def test_a_key_does_not_open_admin_and_the_admin_token_opens_nothing_else(
    make_client: Callable[..., TestClient], keys: Any
) -> None:
    client = make_client(api_keys_file=keys.file, admin_token="open-sesame")
    reload = client.post("/admin/bundles/reload", headers=bearer(keys.free))

    assert (reload.status_code, reload.json()["code"]) == (403, "forbidden")
    assert client.post("/admin/bundles/reload").status_code == 401
    assert client.get("/models", headers=bearer("open-sesame")).status_code == 401


def test_requests_of_different_keys_never_share_a_run(
    make_client: Callable[..., TestClient], keys: Any, clips: Path
) -> None:
    client = make_client(api_keys_file=keys.file)
    picture = {"frames": (clips / "single_face.jpg").read_bytes()}
    for token in (keys.free, keys.free, keys.limited):
        headers = bearer(token) | {"Idempotency-Key": "the-same"}
        assert client.post("/predict/pain", files=picture, headers=headers).status_code == 200

    samples = client.get("/metrics").text
    assert 'pkdot_idempotent_total{result="new"} 2.0' in samples
    assert 'pkdot_idempotent_total{result="stored"} 1.0' in samples


def test_the_log_names_the_key_and_never_shows_it(
    make_client: Callable[..., TestClient], keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(api_keys_file=keys.file, trusted_proxies="127.0.0.0/8")
    with caplog.at_level("DEBUG"):
        client.get("/models", headers=bearer(keys.free))
        client.get("/models", headers=bearer(keys.free[:-1]))

    lines = [record.getMessage() for record in caplog.records if record.name == "pkdot.requests"]
    assert [" key=free " in line for line in lines] == [True, False]
    assert keys.free[:-1] not in caplog.text


def test_a_reload_takes_in_the_file_and_a_wrong_file_changes_nothing(
    make_client: Callable[..., TestClient], keys: Any
) -> None:
    client = make_client(api_keys_file=keys.file, admin_token="open-sesame")
    token, key = new_key("new")
    assert client.get("/models", headers=bearer(token)).status_code == 401

    keys.file.write_text(key.line())
    assert client.post("/admin/bundles/reload", headers=bearer("open-sesame")).status_code == 200
    assert client.get("/models", headers=bearer(token)).status_code == 200
    assert client.get("/models", headers=bearer(keys.free)).status_code == 401

    keys.file.write_text("a secret in the wrong place")
    refused = client.post("/admin/bundles/reload", headers=bearer("open-sesame"))
    assert (refused.status_code, refused.json()["code"]) == (422, "access_files_refused")
    assert "line 1" in refused.json()["detail"]
    assert str(keys.file) not in refused.text
    assert "secret in" not in refused.text
    assert client.get("/models", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "ward.example.evil.example"])
def test_only_probes_and_scrapes_may_use_another_name(make_client: Callable[..., TestClient], host: str) -> None:
    client = make_client(allowed_hosts="ward.example, testserver")
    assert client.get("/models", headers={"Host": "ward.example:8000"}).status_code == 200

    for path in ("/models", "/docs", "/openapi.json", "/nothing", "/predict/pain"):
        reply = client.get(path, headers={"Host": host})
        assert (reply.status_code, reply.json()["code"]) == (421, "misdirected_request")
        assert host not in reply.text
    for path in ("/health/live", "/health/ready", "/metrics", "/v2/health/ready"):
        assert client.get(path, headers={"Host": host}).status_code == 200


def test_the_log_says_who_used_another_name(
    make_client: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(allowed_hosts="ward.example")
    with caplog.at_level("INFO", "pkdot.requests"):
        client.get("/models", headers={"Host": "evil.example"})

    (line,) = [line for line in caplog.messages if " 421 misdirected_request " in line]
    assert " client=testclient " in line


def test_no_page_of_another_origin_may_read_an_answer(make_client: Callable[..., TestClient]) -> None:
    reply = make_client().get("/models", headers={"Origin": "https://desk.example"})
    preflight = make_client().options(
        "/predict/pain", headers={"Origin": "https://desk.example", "Access-Control-Request-Method": "POST"}
    )

    for answer in (reply, preflight):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert preflight.status_code == 405


def test_an_origin_that_is_listed_may_and_no_other(make_client: Callable[..., TestClient], keys: Any) -> None:
    client = make_client(api_keys_file=keys.file, allowed_origins="https://desk.example")
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = client.options("/predict/pain", headers={"Origin": "https://desk.example"} | ask)
    foreign = client.options("/predict/pain", headers={"Origin": "https://desk.example.evil.example"} | ask)
    refused = client.get("/models", headers={"Origin": "https://desk.example"})

    assert preflight.status_code == 200  # without a key: browsers send none with a preflight
    assert preflight.headers["access-control-allow-origin"] == "https://desk.example"
    assert "access-control-allow-credentials" not in preflight.headers
    assert "access-control-allow-origin" not in foreign.headers
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://desk.example"  # so that the page can read why


def test_its_pages_may_send_and_read_what_tensors_and_traces_need(make_client: Callable[..., TestClient]) -> None:
    client = make_client(allowed_origins="https://desk.example")
    sent = "content-type, inference-header-content-length, traceparent, tracestate, x-request-id"
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": sent}
    preflight = client.options("/v2/models/pain-test/infer", headers={"Origin": "https://desk.example"} | ask)
    answer = client.get("/v2", headers={"Origin": "https://desk.example"})

    allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert (preflight.status_code, set(sent.split(", ")) - set(allowed)) == (200, set())
    assert "Inference-Header-Content-Length" in answer.headers["access-control-expose-headers"].split(", ")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_its_pages_may_ask_by_every_method_that_answers(make_client: Callable[..., TestClient], method: str) -> None:
    client = make_client(allowed_origins="https://desk.example")
    ask = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}

    assert client.options("/models", headers={"Origin": "https://desk.example"} | ask).status_code == 200


@pytest.fixture
def live(bundles_folder: Path, open_server: Open, keys: Any) -> Iterator[Any]:
    settings = Settings(bundles=bundles_folder, port=0, api_keys_file=keys.file, slow_upload_after_s=120)
    with open_server(settings) as server:
        yield server


def test_a_key_at_its_limit_is_told_so_at_the_headers_and_others_go_on(
    live: Any,
    keys: Any,
    eventually: Callable[[Callable[[], bool]], None],
    clips: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pkdot.requests")
    url = f"http://127.0.0.1:{live.port}"
    ring = live.server.access.keys
    picture = {"frames": (clips / "single_face.jpg").read_bytes()}

    def at_work() -> int:
        return sum(use.at_work for use in ring.uses.values())

    with ExitStack() as stack:
        for number in (1, 2):
            holder = stack.enter_context(opened(live.port))
            holder.sendall(HEAD % (keys.limited.encode(), b""))
            eventually(lambda number=number: at_work() == number)  # type: ignore[misc]
        refused = stack.enter_context(opened(live.port))
        refused.sendall(HEAD % (keys.limited.encode(), b"Expect: 100-continue\r\n"))
        head = refused.recv(4096)
        assert head.startswith(b"HTTP/1.1 429 ")  # and not 100: nothing of the body was asked for
        assert b"retry-after: 1\r\n" in head or b"retry-after: 2\r\n" in head
        assert b"\r\nserver-timing: upload;dur=" in head
        free = loopback.post(f"{url}/predict/pain", files=picture, headers=bearer(keys.free), timeout=60)
        assert free.status_code == 200
    eventually(lambda: at_work() == 0)
    assert loopback.get(f"{url}/models", headers=bearer(keys.limited), timeout=60).status_code == 200
    eventually(lambda: " 429 rate_limited " in caplog.text)
    (line,) = [line for line in caplog.messages if " 429 rate_limited " in line]
    assert " key=limited " in line


def test_a_stranger_is_refused_before_the_upload(live: Any) -> None:
    with opened(live.port) as stranger:
        stranger.sendall(HEAD % (b"pkdot_wrong", b"Expect: 100-continue\r\n"))
        assert stranger.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert live.server.lifecycle.resources.admission.at_work == 0


HEAD = (
    b"POST /predict/pain HTTP/1.1\r\nHost: test\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    b"Content-Length: 100000\r\nAuthorization: Bearer %s\r\n%s\r\n"
)


def opened(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)
