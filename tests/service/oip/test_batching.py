"""What inference shares with the rest of the service: batches, the spool, metrics; and what it leaves behind."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

HEADER = "inference-header-content-length"
PAIN = "/v2/models/pain/infer"


def body(eda: NDArray[np.float32]) -> tuple[bytes, dict[str, str]]:
    """A binary request for the logits of the bundle `pain`, and its header."""
    tensor = {"name": "eda", "shape": eda.shape, "datatype": "FP32", "parameters": {"binary_data_size": eda.nbytes}}
    head = json.dumps({"inputs": [tensor], "outputs": [{"name": "logits"}]}).encode()
    return head + eda.tobytes(), {HEADER: str(len(head))}


def logits(reply: Any) -> NDArray[np.float32]:
    assert reply.status_code == 200, reply.text
    (output,) = reply.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def windows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (count, 5)).astype(np.float32)


def test_the_windows_of_a_request_are_items_of_the_batcher(client: TestClient) -> None:
    content, headers = body(windows(20))
    reply = client.post(PAIN, content=content, headers=headers)

    assert len(logits(reply)) == 20
    (largest,) = re.findall(r'desc="batch (\d+)"', reply.headers["server-timing"])
    assert 1 <= int(largest) <= 20  # the largest batch that is useful was measured at the start
    assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
        "upload",
        "queue",
        "inference",
    ]
    assert reply.headers["endpoint-load-metrics"].startswith("TEXT application_utilization=")


def test_each_of_many_callers_gets_its_own_rows(client: TestClient) -> None:
    requests = [windows(count, seed) for seed, count in enumerate([1, 3, 17, 1, 40, 2, 9, 1])]

    def ask(eda: NDArray[np.float32]) -> NDArray[np.float32]:
        content, headers = body(eda)
        return logits(client.post(PAIN, content=content, headers=headers))

    alone = [ask(eda) for eda in requests]
    with ThreadPoolExecutor(len(requests)) as callers:
        together = list(callers.map(ask, requests))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.parametrize("memory_bytes", [0, 1000, 50_000])
def test_what_outgrows_the_memory_is_computed_from_the_file(
    make_client: Callable[..., TestClient], memory_bytes: int
) -> None:
    eda = windows(2000)
    eda[7, 3] = np.nan
    content, headers = body(eda)
    in_memory = make_client().post(PAIN, content=content, headers=headers)
    client = make_client(spool_memory_bytes=memory_bytes)
    reply = client.post(PAIN, content=(content[at : at + 777] for at in range(0, len(content), 777)), headers=headers)

    np.testing.assert_allclose(logits(reply), logits(in_memory), atol=1e-6)
    assert "pkdot_spool_bytes 0.0" in client.get("/metrics").text


def test_values_are_checked_in_the_file_as_well(make_client: Callable[..., TestClient]) -> None:
    eda = windows(2000)
    eda[1999, 4] = np.inf
    content, headers = body(eda)
    refused = make_client(spool_memory_bytes=0).post(PAIN, content=content, headers=headers)

    assert (refused.status_code, "window 1999 of the batch" in refused.json()["error"]) == (422, True)


def test_a_large_tensor_is_checked_in_pieces(client: TestClient) -> None:
    voice = np.zeros((600, 8, 100), np.float32)  # 1.9 MB, more than is checked at once
    voice[599, 0, 0] = np.nan
    tensor = {
        "name": "voice",
        "shape": voice.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": voice.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    refused = client.post("/v2/models/affect/infer", content=head + voice.tobytes(), headers={HEADER: str(len(head))})

    assert (refused.status_code, "window 599 of the batch" in refused.json()["error"]) == (422, True)


def test_large_json_is_read_beside_the_event_loop_and_answers_the_same(client: TestClient) -> None:
    eda = windows(3000)  # 300 kB of JSON
    tensor = {"name": "eda", "shape": eda.shape, "datatype": "FP32", "data": eda.ravel().tolist()}
    reply = client.post(PAIN, json={"inputs": [tensor], "outputs": [{"name": "logits"}]})
    content, headers = body(eda)

    np.testing.assert_array_equal(logits(reply), logits(client.post(PAIN, content=content, headers=headers)))


def test_metrics_count_requests_and_windows(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    gaze = np.zeros((3, 4, 3), np.float32)
    gaze[1] = np.finfo(np.float32).max
    tensor = {"name": "gaze", "shape": gaze.shape, "datatype": "FP32", "data": gaze.ravel().tolist()}
    version = client.post("/v2/models/stress/infer", json={"inputs": [tensor]}).json()["model_version"]
    client.post("/v2/models/stress/infer", content=b"{")

    samples = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    owner = f'task="regression",version="{version}"'
    expected = {
        'pkdot_requests_total{code="ok",status="200",task="regression"}': 1,
        'pkdot_requests_total{code="malformed_request",status="400",task="regression"}': 1,
        'pkdot_requests_in_flight{task="regression"}': 0,
        f'pkdot_windows_total{{bundle="stress",outcome="answered",{owner}}}': 2,
        f'pkdot_windows_total{{bundle="stress",outcome="not_computable",{owner}}}': 1,
        'pkdot_modality_windows_total{modality="gaze",state="observed"}': 2,
        "pkdot_batch_size_sum": 3,
        "pkdot_queue_items": 0,
        "pkdot_spool_bytes": 0,
    }
    assert {name: float(samples[name]) for name in expected} == expected
