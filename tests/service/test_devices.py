"""Several devices in one process: on a CPU each of them is one more set of sessions."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from models.bundle import BundleError
from service.bundles import BundleLoader
from service.cancellation import Cancellation
from service.provider_options import CPU
from service.providers import Providers
from service.runtime import Arrays, GraphRunner
from service.settings import Settings
from service.threads import ThreadPlan

TWO = Providers((CPU,), devices=(0, 1))
PLAN = ThreadPlan(cores=1, intra_op=1, decoders=1)


def test_requests_are_answered_by_all_devices(
    affect_bundle: Path, open_client: Callable[[Settings], AbstractContextManager[TestClient]]
) -> None:
    voices = np.random.default_rng(0).uniform(-13, 2, (200, 64, 200)).astype(np.float32)
    tensor = {"name": "voice", "shape": voices.shape, "datatype": "FP32"}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": voices.nbytes}}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    with open_client(Settings(bundles=affect_bundle, devices=(0, 1))) as client:
        resources = client.app.state.lifecycle.resources  # type: ignore[attr-defined]
        used: set[int] = set()
        for runner in resources.shelf.runners():
            for one in (runner, *runner.twins):
                watch_device(one, used)
        reply = client.post("/v2/models/affect-test/infer", content=head + voices.tobytes(), headers=headers)

    assert reply.status_code == 200, reply.text
    assert set(resources.batcher.devices) == {0, 1}
    assert used == {0, 1}


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
