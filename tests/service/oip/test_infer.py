"""Inference through the whole app: every graph, both forms of tensors, and what is refused."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

Arrays = Mapping[str, NDArray[np.generic]]
DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
FROM_WIRE = {"FP32": np.float32, "BOOL": np.bool_}
HEADER = "inference-header-content-length"

EDA = np.zeros((1, 5), np.float32)


class Case(NamedTuple):
    """What the fixture `case` gives."""

    model: str
    arrays: Arrays
    raw: NDArray[np.float32]


def tensor(name: str, array: NDArray[np.generic], **entry: Any) -> dict[str, Any]:
    """One input without its data."""
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype.name]} | entry


def in_json(arrays: Arrays, **more: Any) -> dict[str, Any]:
    """A request with flat data in its JSON."""
    return {"inputs": [tensor(n, a, data=a.ravel().tolist()) for n, a in arrays.items()]} | more


def post(client: TestClient, model: str, request: object) -> Any:
    return client.post(f"/v2/models/{model}/infer", content=json.dumps(request))


def post_binary(client: TestClient, model: str, arrays: Arrays, headers: Any = None, **more: Any) -> Any:
    """Every tensor behind the JSON."""
    sized = {n: {"binary_data_size": a.nbytes} for n, a in arrays.items()}
    head = json.dumps({"inputs": [tensor(n, a, parameters=sized[n]) for n, a in arrays.items()]} | more).encode()
    body = head + b"".join(array.tobytes() for array in arrays.values())
    return client.post(f"/v2/models/{model}/infer", content=body, headers={HEADER: str(len(head)), **(headers or {})})


def tensors(reply: Any) -> dict[str, NDArray[np.generic]]:
    """The outputs of an answer, whatever form each has."""
    assert reply.status_code == 200, reply.text
    size = int(reply.headers.get(HEADER, len(reply.content)))
    answer, rest, found = json.loads(reply.content[:size]), reply.content[size:], {}
    for output in answer["outputs"]:
        count = output.get("parameters", {}).get("binary_data_size", 0)
        dtype = FROM_WIRE[output["datatype"]]
        flat = np.frombuffer(rest[:count], dtype) if count else np.array(output["data"], dtype)
        found[output["name"]] = flat.reshape(output["shape"])
        rest = rest[count:]
    assert rest == b""
    return found


def scraped(client: TestClient, series: str) -> float:
    """The number of the one series that begins so; 0 before there is one."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"pkdot_{series}")]
    assert len(lines) <= 1
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def error_of(reply: Any) -> str:
    assert reply.headers["content-type"] == "application/json"
    answer: dict[str, str] = reply.json()
    assert set(answer) == {"error"}
    return answer["error"]


def test_json_tensors_give_what_the_graph_computes(client: TestClient, case: Case) -> None:
    found = tensors(post(client, case.model, in_json(case.arrays)))

    assert next(iter(found)) in {"logits", "values"}
    np.testing.assert_allclose(next(iter(found.values())), case.raw, atol=1e-5)


def test_nested_data_is_the_same_as_flat_data(client: TestClient, case: Case) -> None:
    nested = {"inputs": [tensor(n, a, data=a.tolist()) for n, a in case.arrays.items()]}

    flat = tensors(post(client, case.model, in_json(case.arrays)))
    for name, array in tensors(post(client, case.model, nested)).items():
        np.testing.assert_array_equal(array, flat[name])


def test_binary_tensors_give_the_same_as_json_both_ways(client: TestClient, case: Case) -> None:
    from_json = post(client, case.model, in_json(case.arrays))
    from_binary = post_binary(client, case.model, case.arrays, parameters={"binary_data_output": True})

    assert from_json.headers["content-type"] == "application/json"
    assert from_binary.headers["content-type"] == "application/octet-stream"
    expected = tensors(from_json)
    found = tensors(from_binary)
    assert list(found) == list(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_json_and_binary_tensors_may_be_mixed(client: TestClient) -> None:
    gaze = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    inputs = [
        tensor("gaze", gaze, parameters={"binary_data_size": gaze.nbytes}),
        tensor("eda", EDA, data=[0.5] * 5),
    ]
    outputs = [{"name": "probabilities"}, {"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    reply = client.post("/v2/models/mood/infer", content=head + gaze.tobytes(), headers={HEADER: str(len(head))})

    alone = tensors(post(client, "mood", in_json({"eda": EDA + np.float32(0.5), "gaze": gaze})))
    found = tensors(reply)
    assert list(found) == ["probabilities", "logits"]
    np.testing.assert_array_equal(found["logits"], alone["logits"])
    np.testing.assert_array_equal(found["probabilities"], alone["probabilities"])


def test_the_largest_numbers_count_as_what_they_are(client: TestClient) -> None:
    large = [2**100, 2**64, 2**53, -(2**63), 1]
    whole = in_json({"eda": EDA}, parameters={"timeout": 2**63 - 1})
    whole["inputs"][0]["data"] = large
    given = post(client, "pain", whole)
    expected = post(client, "pain", in_json({"eda": np.array([large], np.float32)}))

    assert (given.status_code, given.json()) == (200, expected.json())


def test_an_answer_names_its_model_its_request_and_what_was_hallucinated(client: TestClient) -> None:
    version = client.get("/v2/models/pain").json()["versions"][0]
    request = in_json({"eda": EDA}, id="42", outputs=[{"name": "expected"}])

    answer = client.post(f"/v2/models/pain/versions/{version}/infer", content=json.dumps(request)).json()

    assert answer == {
        "model_name": "pain",
        "model_version": version,
        "id": "42",
        "parameters": {"hallucinated": "gaze"},
        "outputs": [{"name": "expected", "datatype": "FP32", "shape": [1], "data": [0.75]}],
    }


def test_levels_come_with_probabilities_their_mean_and_the_conformal_set(client: TestClient) -> None:
    # logits of 0 are conditional probabilities of one half: 1/2, 1/4, 1/4; scores up to 0.6 are in the set
    found = tensors(post(client, "pain", in_json({"eda": EDA})))

    assert {name: array.tolist() for name, array in found.items()} == {
        "logits": [[0, 0]],
        "probabilities": [[0.5, 0.25, 0.25]],
        "expected": [0.75],
        "conformal_set": [[True, False, False]],
    }


def test_probabilities_are_tempered(client: TestClient) -> None:
    eda = np.full((1, 5), 0.4, np.float32)
    found = tensors(post(client, "pain", in_json({"eda": eda})))

    above = 1 / (1 + np.exp(-found["logits"].astype(float) / 2.0))  # the temperature of this bundle
    np.testing.assert_allclose(found["probabilities"][:, 0], 1 - above[:, 0], rtol=1e-5)
    np.testing.assert_allclose(found["probabilities"][:, 2], above[:, 0] * above[:, 1], rtol=1e-5)


def test_classes_come_with_a_softmax_and_no_mean(client: TestClient) -> None:
    arrays = {"eda": EDA, "gaze": np.zeros((1, 4, 3), np.float32)}
    found = tensors(post(client, "mood", in_json(arrays)))

    assert {name: array.tolist() for name, array in found.items()} == {
        "logits": [[0, 0]],
        "probabilities": [[0.5, 0.5]],
        "conformal_set": [[True, True]],
    }


def test_values_come_with_intervals_and_without_where_no_quantile_is_valid(client: TestClient) -> None:
    found = tensors(post(client, "stress", in_json({"gaze": np.zeros((1, 4, 3), np.float32)})))

    assert found["values"].tolist() == [[0, 0]]
    np.testing.assert_array_equal(found["lower"], [[-2, np.nan]])
    np.testing.assert_array_equal(found["upper"], [[2, np.nan]])


def test_intervals_of_affect_stay_in_their_range(client: TestClient) -> None:
    arrays = {"face": np.full((1, 2, 32, 32, 3), 255, np.uint8), "voice": np.full((1, 8, 100), 9, np.float32)}
    found = tensors(post_binary(client, "affect", arrays))

    assert np.abs(found["values"]).max() > 0.7
    np.testing.assert_allclose(found["lower"], np.maximum(found["values"] - [0.3, 0.4], -1), atol=1e-6)
    np.testing.assert_allclose(found["upper"], np.minimum(found["values"] + [0.3, 0.4], 1), atol=1e-6)


def test_a_graph_without_any_quantile_answers_without_intervals(client: TestClient) -> None:
    voice = {"voice": np.zeros((1, 8, 100), np.float32)}

    assert list(tensors(post(client, "affect", in_json(voice)))) == ["values"]
    refused = post(client, "affect", in_json(voice, outputs=[{"name": "lower"}]))
    assert (refused.status_code, error_of(refused)) == (422, "outputs: may be values; got lower")


def test_missing_features_may_be_nan_or_null(client: TestClient) -> None:
    gap, filled = np.array([[1, np.nan, 2, np.nan, 3]], np.float32), np.array([[1, 0, 2, 0, 3]], np.float32)
    with_null = {"inputs": [tensor("eda", gap, data=[1, None, 2.5 - 0.5, None, 3])]}
    with_word = json.dumps({"inputs": [tensor("eda", gap, data=["?"])]}).replace('"?"', "1, NaN, 2, NaN, 3")

    expected = tensors(post(client, "pain", in_json({"eda": filled})))["logits"]
    for reply in (
        post_binary(client, "pain", {"eda": gap}),
        post(client, "pain", with_null),
        client.post("/v2/models/pain/infer", content=with_word),
    ):
        np.testing.assert_array_equal(tensors(reply)["logits"], expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_feature_is_refused(client: TestClient, value: float) -> None:
    eda = np.zeros((3, 5), np.float32)
    eda[1, 2] = value
    refused = post_binary(client, "pain", {"eda": eda})

    assert refused.status_code == 422
    sentence = "eda: values must be finite, or NaN where one is missing; window 1 of the batch holds others"
    assert error_of(refused) == sentence


def test_a_recording_has_no_missing_values(client: TestClient) -> None:
    voice = np.zeros((2, 8, 100), np.float32)
    voice[1, 7, 99] = np.nan
    refused = post_binary(client, "affect", {"voice": voice})

    assert refused.status_code == 422
    assert error_of(refused) == "voice: values must be finite; window 1 of the batch holds others"


def test_a_window_that_cannot_be_computed_is_nan_and_its_neighbours_are_not(client: TestClient) -> None:
    gaze = np.zeros((3, 4, 3), np.float32)
    gaze[1] = np.finfo(np.float32).max  # its weighted sum overflows
    as_json = post(client, "stress", in_json({"gaze": gaze}))
    as_bytes = post_binary(client, "stress", {"gaze": gaze}, parameters={"binary_data_output": True})

    assert as_json.json()["outputs"][0]["data"] == [0, 0, None, None, 0, 0]
    for found in (tensors(as_json), tensors(as_bytes)):
        assert np.isnan([found["values"][1], found["lower"][1], found["upper"][1]]).all()
        assert found["values"][[0, 2]].tolist() == [[0, 0], [0, 0]]


def test_a_window_in_which_a_feature_was_not_observed_has_no_answer(client: TestClient) -> None:
    arrays = {"eda": np.full((4, 5), 2, np.float32), "gaze": np.ones((4, 4, 3), np.float32)}
    complete = tensors(post(client, "mood", in_json(arrays)))
    arrays["eda"][1, :] = arrays["gaze"][2, :] = np.nan
    arrays["eda"][3, :4] = np.nan  # a gap, which the graph fills
    counted = 'windows_total{bundle="mood",outcome="%s"'
    before = [scraped(client, counted % outcome) for outcome in ("answered", "not_computable")]

    as_json = post(client, "mood", in_json(arrays))
    as_bytes = post_binary(client, "mood", arrays)

    assert as_json.json()["outputs"][0]["data"][2:6] == [None] * 4
    for found in (tensors(as_json), tensors(as_bytes)):
        assert np.isnan(found["logits"]).tolist() == np.isnan(found["probabilities"]).tolist()
        assert np.isnan(found["logits"]).all(axis=1).tolist() == [False, True, True, False]
        assert found["conformal_set"][1:3].tolist() == [[False, False]] * 2
        np.testing.assert_array_equal(found["logits"][0], complete["logits"][0])
    after = [scraped(client, counted % outcome) for outcome in ("answered", "not_computable")]
    assert np.subtract(after, before).tolist() == [4, 4]


def test_values_of_a_window_that_was_not_observed_have_no_interval(client: TestClient) -> None:
    gaze = np.zeros((70, 4, 3), np.float32)  # so many that the answer is written beside the event loop
    gaze[69] = np.nan
    found = tensors(post(client, "stress", in_json({"gaze": gaze})))

    for name, array in found.items():
        expected = {"values": [0, 0], "lower": [-2, np.nan], "upper": [2, np.nan]}[name]
        np.testing.assert_array_equal(array, [expected] * 69 + [[np.nan, np.nan]])


def test_no_level_is_in_the_set_of_a_window_that_cannot_be_computed(client: TestClient) -> None:
    found = tensors(post(client, "pain", in_json({"eda": np.full((1, 5), 3e38, np.float32)})))

    assert found["conformal_set"].tolist() == [[False, False, False]]
    assert np.isnan(found["expected"]).all()
