"""The protocol's best-known client against a real socket."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from service.server import Server


class LiveServer(Protocol):
    """What `live` gives."""

    @property
    def server(self) -> Server: ...

    @property
    def port(self) -> int: ...


class Case(NamedTuple):
    """What the fixture `case` gives."""

    model: str
    arrays: dict[str, NDArray[np.generic]]
    raw: NDArray[np.float32]


@pytest.fixture
def client(live: LiveServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{live.port}", concurrency=4) as client:
        yield client


def inputs_of(case: Case, *, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for name, array in case.arrays.items():
        inputs.append(triton.InferInput(name, list(array.shape), "UINT8" if array.dtype == np.uint8 else "FP32"))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return inputs


def test_it_reads_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affect")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    (version,) = client.get_model_metadata("affect")["versions"]
    assert client.is_model_ready("affect", version)
    assert client.get_model_metadata("affect", version)["inputs"][0]["name"] == "face"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_it_infers_with_every_graph(client: triton.InferenceServerClient, case: Case, binary: bool) -> None:
    raw = "logits" if case.model in {"pain", "mood"} else "values"
    outputs = [triton.InferRequestedOutput(raw, binary_data=binary)]

    answer = client.infer(case.model, inputs_of(case, binary=binary), outputs=outputs, request_id="7")

    np.testing.assert_allclose(answer.as_numpy(raw), case.raw, atol=1e-5)
    assert (answer.get_response()["id"], answer.get_response()["model_name"]) == ("7", case.model)


def test_it_gets_every_output_where_it_names_none(client: triton.InferenceServerClient, case: Case) -> None:
    answer = client.infer(case.model, inputs_of(case, binary=True), timeout=10_000_000)

    offered = {output["name"] for output in client.get_model_metadata(case.model)["outputs"]}
    given = {output["name"] for output in answer.get_response()["outputs"]}
    assert {"logits", "values"} & given
    assert given <= offered
    for name in given:
        assert len(answer.as_numpy(name)) == 3


def test_many_requests_at_once_are_answered_each(client: triton.InferenceServerClient, case: Case) -> None:
    handles = [client.async_infer(case.model, inputs_of(case, binary=True)) for _ in range(12)]
    raw = "logits" if case.model in {"pain", "mood"} else "values"

    for handle in handles:
        np.testing.assert_allclose(handle.get_result().as_numpy(raw), case.raw, atol=1e-5)


def test_it_understands_a_refusal(client: triton.InferenceServerClient) -> None:
    eda = triton.InferInput("eda", [1, 4], "FP32")
    eda.set_data_from_numpy(np.zeros((1, 4), np.float32))

    with pytest.raises(InferenceServerException, match="must have the shape") as refused:
        client.infer("pain", [eda])
    assert refused.value.status() == "422"
