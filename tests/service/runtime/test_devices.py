"""Several devices in one process: on a CPU each of them is one more set of sessions."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle import BundleError
from service.bundles.loader import BundleLoader
from service.runtime.cancellation import Cancellation
from service.runtime.provider_options import CPU
from service.runtime.providers import Providers
from service.runtime.runner import Arrays, GraphRunner
from service.settings import Settings
from service.threads.plan import ThreadPlan

TWO = Providers((CPU,), devices=(0, 1))
PLAN = ThreadPlan(cores=1, intra_op=1, decoders=1)
NINES = np.full((1, 64, 200), 9, np.float32)

Open = Callable[[Settings], AbstractContextManager[Any]]


def test_requests_are_answered_by_all_devices(affect_bundle: Path, open_client: Open) -> None:
    with open_client(Settings(bundles=affect_bundle, devices=(0, 1))) as client:
        resources = client.app.state.lifecycle.resources
        used: set[int] = set()
        for runner in resources.shelf.runners():
            for one in (runner, *runner.twins):
                watch_device(one, used)
        reply = ask(client, np.random.default_rng(0).uniform(-13, 2, (200, 64, 200)).astype(np.float32))

    assert reply.status_code == 200, reply.text
    assert set(resources.batcher.devices) == {0, 1}
    assert used == {0, 1}


def ask(client: Any, voices: NDArray[np.float32]) -> Any:
    """The answer for windows of sound (batch, mels, steps)."""
    tensor = {"name": "voice", "shape": voices.shape, "datatype": "FP32"}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": voices.nbytes}}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    return client.post("/v2/models/affect-test/infer", content=head + voices.tobytes(), headers=headers)


def watch_device(runner: GraphRunner, used: set[int]) -> None:
    run_checked = runner.run_checked

    def watched(inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
        used.add(runner.device)
        return run_checked(inputs, cancel)

    runner.run_checked = watched  # type: ignore[method-assign]


def test_a_device_that_computes_something_else_keeps_the_bundle_out(
    affect_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_checked = GraphRunner.run_checked

    def skewed(runner: GraphRunner, inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
        return np.asarray(run_checked(runner, inputs, cancel)) + np.float32(0.5 * runner.device)

    monkeypatch.setattr(GraphRunner, "run_checked", skewed)

    BundleLoader(Providers((CPU,)), PLAN).load(affect_bundle)
    with pytest.raises(BundleError, match=r"golden output differs by 0\.5"):
        BundleLoader(TWO, PLAN).load(affect_bundle)


def fail_where(monkeypatch: pytest.MonkeyPatch, fails: Callable[[GraphRunner, Arrays], bool]) -> None:
    """From now on a run raises where `fails` says so."""
    run_checked = GraphRunner.run_checked

    def checked(runner: GraphRunner, inputs: Arrays, cancel: Cancellation | None = None) -> NDArray[np.generic]:
        if fails(runner, inputs):
            raise RuntimeError("CUDA failure 719")
        return run_checked(runner, inputs, cancel)

    monkeypatch.setattr(GraphRunner, "run_checked", checked)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_device_that_fails_on_the_golden_input_too_ends_the_service(
    affect_bundle: Path,
    open_client: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lost: int,
) -> None:
    voices = np.random.default_rng(0).uniform(-13, 2, (200, 64, 200)).astype(np.float32)
    with open_client(Settings(bundles=affect_bundle, devices=(0, 1))) as client:
        fail_where(monkeypatch, lambda runner, _: runner.device == lost)
        replies = [ask(client, voices) for _ in range(2)]
        ready = client.get("/health/ready")
        assert client.get("/health/live").status_code == 503

    assert [reply.status_code for reply in replies] == [503, 503]
    assert "the device of this service has failed" in replies[0].json()["error"]
    assert (ready.status_code, ready.json()) == (503, {"status": "failed"})
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [f"device {lost} no longer computes: RuntimeError: CUDA failure 719"]


def test_tensors_that_fail_by_themselves_are_at_fault_and_the_log_says_why(
    affect_bundle: Path, open_client: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_client(Settings(bundles=affect_bundle, devices=(0, 1))) as client:
        version = client.get("/models").json()["models"][0]["version"]
        fail_where(monkeypatch, lambda _, inputs: bool((inputs["voice"] == 9).all(axis=(1, 2)).any()))
        refused = [ask(client, NINES) for _ in range(5)]
        answered = ask(client, NINES - 1)
        ready = client.get("/health/ready")

    assert [reply.status_code for reply in refused] == [422] * 5
    assert "cannot be computed" in refused[0].json()["error"]
    assert (answered.status_code, ready.status_code) == (200, 200)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    before, _, cause = told.partition(": RuntimeError: ")
    assert cause == "CUDA failure 719"
    assert before.startswith(f"failed windows: 1 of voice.onnx of bundle affect-test {version}, on ")
