"""What is refused, with which status, in the protocol's own shape; and that nothing at all makes a 500."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.app import create_app
from service.oip import body
from service.runtime.runner import GraphRunner
from service.settings import Settings
from service.uploads.work_rate import Kind

PAIN = "/v2/models/pain/infer"
HEADER = "inference-header-content-length"
EDA = {"name": "eda", "shape": [1, 5], "datatype": "FP32", "data": [0, 0, 0, 0, 0]}
FACE = {"name": "face", "shape": [1, 2, 32, 32, 3], "datatype": "UINT8"}
LARGEST = 2**63 - 1
DEEP = json.loads("[" * 40 + "null" + "]" * 40)
GAZE = {"name": "gaze", "shape": [1, 4, 3], "datatype": "FP32", "data": [0] * 12}


def error_of(reply: Any) -> str:
    assert reply.headers["content-type"] == "application/json"
    answer: dict[str, str] = reply.json()
    assert set(answer) == {"error"}
    return answer["error"]


def eda(**changed: Any) -> dict[str, Any]:
    """A request to the bundle `pain` with something changed in its one input."""
    return {"inputs": [{name: value for name, value in (EDA | changed).items() if value is not None}]}


@pytest.mark.parametrize(
    ("request_body", "status", "sentence"),
    [
        ("", 400, "the request is not JSON"),
        ("{", 400, "the request is not JSON"),
        ("[" * 100_000, 400, "the request is not JSON"),
        ("[]", 422, "request: Input should be an object"),
        ("{}", 422, "inputs: Field required"),
        ({"inputs": []}, 422, "inputs: List should have at least 1 item"),
        ({"inputs": [{}] * 2000}, 422, "inputs: List should have at most 64 items"),
        ({"inputs": [EDA], "output": []}, 422, "output: Extra inputs are not permitted"),
        ({"inputs": [EDA], "id": 42}, 422, "id: Input should be a valid string"),
        ({"inputs": [EDA], "parameters": {"binary_data_output": 1}}, 422, "parameters.binary_data_output"),
        ({"inputs": [EDA], "parameters": {"timeout": 0}}, 422, "parameters.timeout: Input should be greater than 0"),
        ({"inputs": [EDA], "parameters": {"timeout": LARGEST + 1}}, 422, "parameters.timeout: Input should be less"),
        ({"inputs": [EDA], "parameters": {"timeout": 10**310}}, 422, "parameters.timeout: Input should be less than"),
        ({"inputs": [EDA, EDA]}, 422, "inputs: must be {eda}, each once; got {eda, eda}"),
        ({"inputs": [EDA, GAZE]}, 422, "inputs: must be {eda}, each once; got {eda, gaze}"),
        ({"inputs": [GAZE]}, 422, "inputs: must be {eda}, each once; got {gaze}"),
        (eda(name="../eda"), 422, "inputs: must be {eda}, each once; got {../eda}"),
        (eda(datatype="FP64"), 422, "eda: must be FP32; got FP64"),
        (eda(shape=[5]), 422, "eda: must have the shape [batch, 5] with a batch of at least 1; got [5]"),
        (eda(shape=[0, 5], data=[]), 422, "eda: must have the shape [batch, 5] with a batch of at least 1; got [0, 5]"),
        (eda(shape=[1, 5, 1]), 422, "got [1, 5, 1]"),
        (eda(shape=[]), 422, "got []"),
        (eda(shape=[1.0, 5]), 422, "inputs.0.shape.0: Input should be a valid integer"),
        (eda(shape=[-1, 5]), 422, "inputs.0.shape.0: Input should be greater than or equal to 0"),
        (eda(shape=[10**18, 5]), 413, "a batch of 1000000000000000000 windows is over the limit of 5000"),
        (eda(shape=[LARGEST + 1, 5]), 422, "shape.0: Input should be less than or equal to 9223372036854775807"),
        (
            eda(shape=[10**4299, 5], data=None, parameters={"binary_data_size": 20}),
            422,
            "shape.0: Input should be less",
        ),
        (eda(data=None), 422, "eda: needs either `data`, or the parameter `binary_data_size`"),
        (eda(parameters={"binary_data_size": 20}), 422, "eda: needs either `data`, or the parameter"),
        (eda(data=None, parameters={"binary_data_size": 20}), 400, "0 bytes follow the JSON, which announces 20"),
        (eda(data=None, parameters={"binary_data_size": 21}), 422, "has 20 bytes by its shape, but its binary_data"),
        (eda(data=None, parameters={"binary_data_size": LARGEST + 1}), 422, "binary_data_size: Input should be less"),
        (eda(data=None, parameters={"shared_memory_region": "r"}), 422, "eda: needs either `data`"),
        (eda(data=[0, 0, 0, 0]), 422, "eda: `data` must hold 5 numbers, flat or nested by the shape"),
        (eda(data=[[0, 0], [0, 0], [0]]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=[[[0, 0, 0, 0, 0]]]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=["0", "0", "0", "0", "0"]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=["0", None, 0, 0, 0]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=[True] * 5), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=[True, 1, 0, 0, 0]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=DEEP), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=[10**400, None, 0, 0, 0]), 422, "eda: `data` must hold 5 numbers"),
        (eda(data={"a": 1}), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=7), 422, "eda: `data` must hold 5 numbers"),
        (eda(data=[1e300, 0, 0, 0, 0]), 422, "eda: values must be finite, or NaN where one is missing"),
        (eda(data=[[]] * 150_000), 413, "more than 150000 lists and objects"),
        (eda(data=[{}] * 150_000), 413, "more than 150000 lists and objects"),
        ({"inputs": [EDA], "outputs": [{"name": "values"}]}, 422, "outputs: may be logits, probabilities, expected"),
        ({"inputs": [EDA], "outputs": [{"name": "logits"}] * 2}, 422, "outputs: name logits more than once"),
    ],
)
def test_a_wrong_request_is_named(client: TestClient, request_body: object, status: int, sentence: str) -> None:
    content = request_body if isinstance(request_body, str) else json.dumps(request_body)
    reply = client.post(PAIN, content=content)

    assert (reply.status_code, sentence in error_of(reply)) == (status, True), reply.text


def test_a_text_among_the_numbers_takes_no_room_for_each(client: TestClient) -> None:
    content = json.dumps(eda(data=["x" * 100_000] + [0] * 999))
    tracemalloc.start()
    try:
        reply = client.post(PAIN, content=content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (reply.status_code, "`data` must hold 5 numbers" in error_of(reply)) == (422, True)
    assert peak < 50_000_000


@pytest.mark.parametrize(
    ("data", "sentence"),
    [([256] * 6144, "from 0 to 255"), ([-1] * 6144, "from 0 to 255"), ([0.5] * 6144, "whole numbers")],
)
def test_pictures_are_whole_numbers_of_a_byte(client: TestClient, data: list[float], sentence: str) -> None:
    reply = client.post("/v2/models/affect/infer", content=json.dumps({"inputs": [FACE | {"data": data}]}))

    assert (reply.status_code, sentence in error_of(reply)) == (422, True)


def test_batches_of_two_sizes_are_refused(client: TestClient) -> None:
    two = EDA | {"shape": [2, 5], "data": [0] * 10}
    reply = client.post("/v2/models/mood/infer", content=json.dumps({"inputs": [two, GAZE]}))

    assert (reply.status_code, error_of(reply)) == (422, "inputs: must have one batch size; got [1, 2]")


def test_everything_that_is_wrong_is_named_at_once(client: TestClient) -> None:
    wrong = {"inputs": [EDA | {"datatype": "INT8"}, GAZE | {"shape": [1, 3, 4]}], "outputs": [{"name": "lower"}]}
    sentences = error_of(client.post("/v2/models/mood/infer", content=json.dumps(wrong)))

    assert [name for name in ("eda", "gaze", "outputs") if f"{name}: m" in sentences] == ["eda", "gaze", "outputs"]


SIZED = json.dumps(eda(data=None, parameters={"binary_data_size": 20})).encode()


@pytest.mark.parametrize(
    ("content", "headers", "status", "sentence"),
    [
        (SIZED + bytes(19), {HEADER: str(len(SIZED))}, 400, "19 bytes follow the JSON, which announces 20"),
        (SIZED + bytes(21), {HEADER: str(len(SIZED))}, 400, "more bytes follow the JSON than the 20"),
        (SIZED, {HEADER: str(len(SIZED) + 1)}, 400, f"the body has {len(SIZED)} bytes, but its JSON is said to have"),
        (SIZED + bytes(20), {HEADER: "-1"}, 400, "Inference-Header-Content-Length is not a number of bytes"),
        (SIZED + bytes(20), {HEADER: "x"}, 400, "Inference-Header-Content-Length is not a number of bytes"),
        (SIZED + bytes(20), {HEADER: "0"}, 400, "the request is not JSON"),
        (SIZED + bytes(20), {HEADER: str(10**15)}, 413, "the JSON is larger than 4194304 bytes"),
        (SIZED + bytes(20), {}, 400, "the request is not JSON"),
        (bytes(body.MAX_JSON_BYTES + 1), {}, 413, "the JSON is larger than 4194304 bytes"),
        (b"{}", {"content-encoding": "gzip"}, 415, "the body has the encoding gzip; send it as it is"),
        (b"{}", {"x-request-timeout": "soon"}, 422, "X-Request-Timeout: must be seconds over 0"),
    ],
)
def test_a_wrong_body_is_named(
    client: TestClient, content: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    reply = client.post(PAIN, content=content, headers=headers)

    assert (reply.status_code, sentence in error_of(reply)) == (status, True), reply.text


@pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "X-Request-Timeout"])
def test_a_doubled_header_is_named(client: TestClient, name: str) -> None:
    sent = httpx2.Headers([(name, str(len(SIZED))), (name, "0")])
    reply = client.post(PAIN, content=SIZED + bytes(20), headers=sent)

    assert (reply.status_code, error_of(reply)) == (422, f"{name}: was sent more than once; send it once")


def test_too_much_json_of_no_stated_length_is_refused_while_it_comes(client: TestClient) -> None:
    pieces = (b" " * 65_536 for _ in range(65))
    reply = client.post(PAIN, content=pieces)

    assert (reply.status_code, "JSON is larger" in error_of(reply)) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/v2/models/nobody", 404, "no model 'nobody' is loaded; there is affect (version"),
        ("GET", "/v2/models/nobody/ready", 404, "no model 'nobody' is loaded"),
        ("POST", "/v2/models/nobody/infer", 404, "no model 'nobody' is loaded"),
        ("GET", "/v2/models/pain/versions/1", 404, "no model 'pain' of version '1' is loaded"),
        ("POST", "/v2/models/pain/versions/1/infer", 404, "no model 'pain' of version '1' is loaded"),
        ("GET", PAIN, 405, "GET is not answered here; accepted is POST"),
        ("POST", "/v2", 405, "accepted is"),
        ("GET", "/v2/repository/index", 404, "there is nothing at this address"),
    ],
)
def test_a_wrong_address_is_answered_in_the_shape_of_the_protocol(
    client: TestClient, method: str, path: str, status: int, sentence: str
) -> None:
    reply = client.request(method, path)

    assert (reply.status_code, sentence in error_of(reply)) == (status, True), reply.text


def test_other_addresses_keep_their_own_shape(client: TestClient) -> None:
    reply = client.get("/v2x")

    assert reply.headers["content-type"] == "application/problem+json"


def test_a_service_that_is_not_ready_says_so(folder: Path) -> None:
    client = TestClient(create_app(Settings(bundles=folder)))  # outside `with`, so that it never starts
    infer, about = client.post(PAIN, content=json.dumps(eda())), client.get("/v2/models/pain")

    assert (client.get("/v2/health/live").status_code, client.get("/v2/health/ready").status_code) == (200, 503)
    assert [reply.status_code for reply in (infer, about)] == [503, 503]
    assert "being loaded" in error_of(infer)


def test_a_full_house_is_refused_with_a_time_to_come_back(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_concurrent_requests=1)
    admission = client.app.state.lifecycle.resources.admission  # type: ignore[attr-defined]
    with admission.place(Kind("test", "any", decodes=False), 0):
        refused = client.post(PAIN, content=json.dumps(eda()))

    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
    assert "as many as are allowed" in error_of(refused)
    assert client.post(PAIN, content=json.dumps(eda())).status_code == 200


def test_a_body_over_the_limit_is_refused_by_its_headers(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_upload_bytes=1000)
    refused = client.post(PAIN, content=bytes(1001), headers={HEADER: "100"})

    assert (refused.status_code, "larger than 1000 bytes" in error_of(refused)) == (413, True)


def test_a_batch_over_the_limit_is_refused(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_windows=2)
    three = eda(shape=[3, 5], data=[0] * 15)
    refused = client.post(PAIN, content=json.dumps(three))

    assert (refused.status_code, "a batch of 3 windows is over the limit of 2" in error_of(refused)) == (413, True)


@pytest.mark.parametrize("asked", ["header", "parameter"])
def test_a_time_that_is_too_short_is_refused(client: TestClient, asked: str) -> None:
    request = eda() | ({"parameters": {"timeout": 1}} if asked == "parameter" else {})
    headers = {"x-request-timeout": "0.000001"} if asked == "header" else {}
    reply = client.post(PAIN, content=json.dumps(request), headers=headers)

    assert reply.status_code == 504
    assert error_of(reply)


def test_tensors_that_fail_alone_are_at_fault_and_a_device_that_fails_on_golden_ones_is_lost(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, fail_on_nines: Callable[[], None]
) -> None:
    client = make_client()
    fail_on_nines()
    culprit = client.post(PAIN, content=json.dumps(eda(data=[9] * 5)))
    assert (culprit.status_code, error_of(culprit)) == (422, "these tensors cannot be computed; send others")
    assert client.post(PAIN, content=json.dumps(eda())).status_code == 200
    assert client.get("/v2/health/ready").status_code == 200

    monkeypatch.setattr(GraphRunner, "run_checked", lambda _, inputs, *__: inputs["lost"])
    lost = client.post(PAIN, content=json.dumps(eda()))
    assert (lost.status_code, "device" in error_of(lost)) == (503, True)
    assert [client.get(f"/v2/health/{kind}").status_code for kind in ("ready", "live")] == [503, 503]


def test_a_bug_is_answered_in_the_shape_of_the_protocol(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    client = make_client()
    monkeypatch.setattr("service.oip.infer.understand", bug)
    reply = client.post(PAIN, content=json.dumps(eda()))

    assert (reply.status_code, "bug in the service" in error_of(reply)) == (500, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["eda", "gaze"]) | JSON,
        "shape": st.sampled_from([[1, 5], [2, 5]]) | JSON,
        "datatype": st.sampled_from(["FP32", "UINT8"]) | JSON,
        "data": st.lists(st.floats(), min_size=5, max_size=5) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | JSON}) | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(ENTRY, max_size=3) | JSON},
    optional={"outputs": st.lists(st.fixed_dictionaries({"name": JSON})) | JSON, "parameters": JSON, "id": JSON},
)


@settings(max_examples=150)
@given(request=REQUEST | JSON, rest=st.binary(max_size=50), shift=st.integers(-2, 2))
def test_no_request_makes_a_500(client: TestClient, request: object, rest: bytes, shift: int) -> None:
    head = json.dumps(request).encode()
    headers = {HEADER: str(len(head) + shift)} if rest else {}
    reply = client.post(PAIN, content=head + rest, headers=headers)

    assert reply.status_code in {200, 400, 413, 422}
    assert reply.status_code == 200 or error_of(reply)
