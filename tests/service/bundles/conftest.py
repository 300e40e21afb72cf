"""Bundles that multiply: `load` answers the sum of four numbers times its gain, so a version is told by its answers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import bundle as bundle_format
from models.spec import FeatureSpec, InputSpec
from tests import loopback

OPSET, IR_VERSION = 18, 9
NUMBERS = (1.0, 2.0, 3.0, 4.0)
SUM = 10.0
TOKEN = "open-sesame"


def write_multiplier(path: Path, gain: float, *, name: str = "load", golden_gain: float | None = None) -> str:
    """Write a bundle whose golden output is that of `golden_gain`, if that is another; returns its version."""
    (path / "golden").mkdir(parents=True)
    weights = numpy_helper.from_array(np.full((4, 1), gain, np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["eda_input", "weights"], ["sum"])],
        "multiplies",
        [helper.make_tensor_value_info("eda_input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.save(model, path / "eda.onnx")
    inputs = np.array([NUMBERS], np.float32)
    output = np.full((1, 1), SUM * (gain if golden_gain is None else golden_gain), np.float32)
    np.savez(path / "golden" / "eda.npz", allow_pickle=False, eda=inputs, output=output)
    manifest: dict[str, object] = {
        "name": name,
        "task": "regression",
        "values": ("load",),
        "prevalent": ("eda",),
        "privileged": (),
        "inputs": InputSpec(window_s=1.0, hop_s=1.0, features={"eda": FeatureSpec(shape=(4,))}),
        "graphs": [
            {
                "available": ("eda",),
                "hallucinated": (),
                "file": "eda.onnx",
                "inputs": {"eda": "eda_input"},
                "output": "sum",
                "golden": "golden/eda.npz",
                "calibration": {"quantiles": {"load": None}, "people": 0, "windows": 0, "reason": "Made up."},
            }
        ],
        "face": None,
        "provenance": {
            "trained_on": "nothing",
            "synthetic": False,
            "protocol": "none",
            "metrics": {},
            "git_revision": None,
            "licences": {},
        },
    }
    return bundle_format.write(path, manifest).version


class Caller:
    """One client of one service: asks for the sum, reloads."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = loopback.Client(base_url=self.url, timeout=60)

    def infer(self, model: str = "load", *, request_id: str = "", rows: int = 1) -> httpx2.Response:
        tensor = {"name": "eda", "datatype": "FP32", "shape": [rows, 4], "data": [*NUMBERS] * rows}
        headers = {"X-Request-ID": request_id} if request_id else {}
        return self.client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]}, headers=headers)

    def answer(self, model: str = "load", *, request_id: str = "") -> tuple[str, float]:
        """Version and value."""
        reply = self.infer(model, request_id=request_id)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        return body["model_version"], body["outputs"][0]["data"][0]

    def reload(self, token: str = TOKEN) -> httpx2.Response:
        return self.client.post("/admin/bundles/reload", headers={"Authorization": f"Bearer {token}"})

    def metrics(self) -> str:
        return self.client.get("/metrics").text


@pytest.fixture(scope="session")
def write() -> Callable[..., str]:
    """`write(path, gain, name="load", golden_gain=None)`: a bundle; returns its version."""
    return write_multiplier


@pytest.fixture
def call() -> Iterator[Callable[[Any], Caller]]:
    """`call(live)`: a client of a live server, with a connection of its own."""
    with ExitStack() as stack:

        def open_caller(live: Any) -> Caller:
            caller = Caller(live.port)
            stack.enter_context(caller.client)
            return caller

        yield open_caller
