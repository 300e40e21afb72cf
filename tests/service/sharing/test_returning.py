"""Who comes back for a run whose client has left joins it, also where that run has the last place."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.access.keys import new_key
from tests import loopback

from ..http.raw_http import form, part
from ..http.raw_http import post as raw_request
from .test_repeats_and_twins import FORM, LINES, gated_in, shared


@pytest.mark.parametrize("accept", ["application/json", LINES])
@pytest.mark.parametrize(
    ("limit", "settings", "refusal"),
    [(1, {}, (429, "rate_limited")), (None, {"max_concurrent_requests": 1}, (503, "overloaded"))],
    ids=["the key's last place", "the service's last place"],
)
@pytest.mark.parametrize("page", [False, True], ids=["a program", "a page of another origin"])
def test_a_repeat_joins_the_run_that_has_the_last_place(
    make_server: Callable[..., Any],
    clips: Path,
    tmp_path: Path,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    accept: str,
    limit: int | None,
    settings: dict[str, Any],
    refusal: tuple[int, str],
    page: bool,
) -> None:
    monkeypatch.setattr("service.sharing.sharing.LINGER_S", 120.0)
    token, key = new_key("ward", limit)
    (tmp_path / "keys").write_text(key.line())
    live = make_server(api_keys_file=tmp_path / "keys", **settings)
    gated = gated_in(live.server.lifecycle)
    sharing = live.server.config.app.state.gate.predictor.sharing
    body, url = form(part("frames", (clips / "single_face.jpg").read_bytes(), "a")), f"http://127.0.0.1:{live.port}"
    origin = {"origin": "https://desk.example"} if page else {}  # the gate leaves these to the app

    def post(name: str) -> Any:
        headers = {"content-type": FORM, "authorization": f"Bearer {token}", "accept": accept, "idempotency-key": name}
        return loopback.post(f"{url}/predict/pain", content=body, headers=headers | origin, timeout=60)

    def results() -> dict[str, float]:
        return shared(loopback.get(f"{url}/metrics", timeout=60).text)

    with socket.create_connection(("127.0.0.1", live.port)) as leaving:
        leaving.sendall(raw_request(body, "Idempotency-Key: k", f"Authorization: Bearer {token}", f"Accept: {accept}"))
        eventually(lambda: gated.begun == 1)
    eventually(lambda: [flight.waiting for flight in sharing.flights.flights.values()] == [0])
    stranger = post("another")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, "k")
        eventually(lambda: asked.done() or results().get("joined") == 1)
        second = post("k")  # a client is waiting now: no other one is expected
        gated.open.set()
        repeat = asked.result()

    assert (stranger.status_code, stranger.json()["code"]) == refusal
    assert (second.status_code, second.json()["code"]) == refusal
    assert (repeat.status_code, gated.begun, results()) == (200, 1, {"new": 1, "joined": 1})
    eventually(lambda: live.server.lifecycle.resources.admission.at_work == 0)
    assert post("another").status_code == 200
