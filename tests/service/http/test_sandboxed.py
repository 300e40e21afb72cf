"""The sandbox behind the routes: what a caller sees of a decoder that goes wrong, and what the operator sees."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.lifecycle import Lifecycle
from service.sandbox.layers import LAYERS
from service.sandbox.sandbox import SandboxError
from service.settings import Settings, SettingsError
from service.telemetry.metrics import Telemetry

HOSTILE = Path(__file__).parents[1] / "sandbox" / "hostile.py"
URL = "/predict/pain"


def metrics(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def hand_over_to_strangers(client: TestClient, behaviour: str) -> None:
    """The next zygote is one of hostile.py's."""
    sandbox = client.app.state.lifecycle.resources.sandbox  # type: ignore[attr-defined]
    if sandbox is None:
        pytest.skip("this system has no sandbox")
    sandbox.command = (sys.executable, "-s", "-P", str(HOSTILE), behaviour)
    sandbox.zygote.close()


@pytest.mark.parametrize(
    ("behaviour", "code", "cause"),
    [
        ("crash", "unreadable_media", "crashed"),
        ("hoard", "unreadable_media", "memory"),
        ("loop", "too_long", "stalled"),
    ],
)
def test_a_decoder_that_goes_wrong_is_its_caller_s_422_and_counted(
    make_client: Callable[..., TestClient],
    monkeypatch: pytest.MonkeyPatch,
    face_clip: bytes,
    behaviour: str,
    code: str,
    cause: str,
) -> None:
    client = make_client(max_decoder_memory_bytes=128 << 20)
    hand_over_to_strangers(client, behaviour)
    if behaviour == "loop":  # on a busy machine, others too may need longer to go wrong
        monkeypatch.setattr("service.sandbox.process.STALLED_S", 1.0)
    reply = client.post(URL, files={"video": face_clip})

    assert (reply.status_code, reply.json()["code"]) == (422, code)
    assert metrics(client)[f'pkdot_decoder_exits_total{{cause="{cause}"}}'] == 1.0
    assert client.get("/health/ready").status_code == 200


def test_a_lost_zygote_is_replaced_for_the_next_request(
    make_client: Callable[..., TestClient], face_clip: bytes
) -> None:
    client = make_client()
    sandbox = client.app.state.lifecycle.resources.sandbox  # type: ignore[attr-defined]
    if sandbox is None:
        pytest.skip("this system has no sandbox")
    sandbox.zygote.process.kill()
    sandbox.zygote.process.wait()
    replies = [client.post(URL, files={"video": face_clip}) for _ in range(2)]

    assert [reply.status_code for reply in replies] == [200, 200]


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_answers_and_metrics_with_and_without_a_sandbox(
    make_client: Callable[..., TestClient], face_clip: bytes, mode: str
) -> None:
    client = make_client(sandbox=mode)
    reply = client.post(URL, files={"video": face_clip})
    sandbox = client.app.state.lifecycle.resources.sandbox  # type: ignore[attr-defined]
    held = sandbox.layers if sandbox is not None else dict.fromkeys(LAYERS, False)

    assert reply.status_code == 200
    values = metrics(client)
    assert {layer: values[f'pkdot_sandbox_layer{{layer="{layer}"}}'] for layer in LAYERS} == {
        layer: float(holds) for layer, holds in held.items()
    }
    assert (sandbox is None) == ('pkdot_decoder_exits_total{cause="ok"}' not in values)


def test_the_answer_is_the_same_with_and_without_a_sandbox(
    make_client: Callable[..., TestClient], face_clip: bytes
) -> None:
    answers = [
        make_client(sandbox=mode).post(URL, files={"video": face_clip}).json()["windows"] for mode in ("auto", "off")
    ]

    assert answers[0] == answers[1]


def test_a_service_that_cannot_have_what_it_requires_does_not_start(
    bundles_folder: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise SandboxError("PKDOT_SANDBOX=require, but this system lacks landlock or seccomp")

    monkeypatch.setattr("service.lifecycle.start_sandbox", lacking)
    app = create_app(Settings(bundles=bundles_folder, sandbox="require"))
    with TestClient(app) as client:
        eventually(lambda: app.state.lifecycle.failure is not None)
        assert client.get("/health/live").status_code == 503
    assert "landlock or seccomp" in app.state.lifecycle.failure


def test_the_sandbox_starts_beside_the_bundles_and_is_blamed_first(
    bundles_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, loaded = threading.Barrier(2), threading.Event()

    def lacking(*_: object, **__: object) -> None:
        together.wait(10)
        raise SandboxError("no sandbox")

    def missing(_: Settings) -> None:
        together.wait(10)
        loaded.set()
        raise SettingsError("no such device")

    monkeypatch.setattr("service.lifecycle.start_sandbox", lacking)
    monkeypatch.setattr("service.lifecycle.load", missing)
    lifecycle = Lifecycle(Settings(bundles=bundles_folder, sandbox="require"), Telemetry(latency_objective_s=0.05))
    asyncio.run(lifecycle.run())

    assert loaded.is_set()
    assert (lifecycle.failure, lifecycle.impossible) == ("no sandbox", False)
