"""The middleware around a WebSocket: what is decided at its handshake, and the hook for the token in its hello."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from service.access.access import Access
from service.access.middleware import AccessMiddleware
from service.context import new_context
from service.errors import ServiceError
from service.settings import Settings
from service.telemetry.metrics import Telemetry


def client(**values: Any) -> TestClient:
    access = Access(Settings.model_validate({"bundles": Path("none")} | values))

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        context = new_context(socket.scope["headers"], 0.0)
        try:
            with access.admitted((await socket.receive_json())["token"], context):
                await socket.send_json({"key": context.key_name, "client": socket.state.edge.client})
        except ServiceError as error:
            await socket.send_json({"code": error.code})
        await socket.close()

    telemetry = Telemetry(latency_objective_s=1.0)
    app = Starlette(routes=[WebSocketRoute("/stream/pain", stream)])
    app.add_middleware(AccessMiddleware, access=access, telemetry=telemetry, expects=lambda *_: False)
    return TestClient(app, base_url="http://ward.example:8000", client=("10.0.0.9", 4711))


def hello(client: TestClient, token: str | None = None, **headers: str) -> Any:
    with client.websocket_connect("/stream/pain", headers=headers) as socket:
        socket.send_json({"type": "hello", "token": token})
        return socket.receive_json()


def refusal(client: TestClient, **headers: str) -> tuple[int, str]:
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/stream/pain", headers=headers):
        pass
    return caught.value.status_code, caught.value.json()["code"]


def test_pages_of_the_service_and_programs_may_open_a_stream() -> None:
    assert hello(client(), Host="ward.example:8000", Origin="http://ward.example:8000")["key"] == ""
    assert hello(client(), Host="ward.example:8000")["key"] == ""


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://ward.example", "https://ward.example:8000"])
def test_pages_of_another_origin_may_not(origin: str) -> None:
    assert refusal(client(), Host="ward.example:8000", Origin=origin) == (403, "forbidden")


def test_pages_that_are_listed_may() -> None:
    listed = client(allowed_origins="https://desk.example")

    assert hello(listed, Origin="https://desk.example")["key"] == ""
    assert refusal(listed, Origin="https://desk.example.evil.example") == (403, "forbidden")


def test_behind_a_trusted_proxy_the_outer_name_is_the_services_own() -> None:
    outer = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ward.example", "X-Forwarded-For": "198.51.100.7"}
    trusted = client(trusted_proxies="10.0.0.0/24")

    assert hello(trusted, Origin="https://ward.example", **outer) == {"key": "", "client": "198.51.100.7"}
    assert refusal(client(), Origin="https://ward.example", **outer) == (403, "forbidden")


def test_a_stream_by_another_name_is_refused() -> None:
    assert refusal(client(allowed_hosts="ward.example"), Host="evil.example") == (421, "misdirected_request")


def test_the_token_of_the_hello_is_a_key_like_any_other(keys: Any) -> None:
    guarded = client(api_keys_file=keys.file)

    assert hello(guarded, keys.free)["key"] == "free"
    assert hello(guarded, keys.free + "x") == {"code": "unauthenticated"}
    assert hello(guarded) == {"code": "unauthenticated"}


def test_streams_count_for_the_limit_of_their_key(keys: Any, tmp_path: Path) -> None:
    access = Access(Settings(bundles=tmp_path, api_keys_file=keys.file))
    context = new_context([], 0.0)
    with (
        access.admitted(keys.limited, context),
        access.admitted(keys.limited, context),
        pytest.raises(ServiceError, match="limit is 2"),
        access.admitted(keys.limited, context),
    ):
        pass
    assert context.caller not in ("", keys.limited)
