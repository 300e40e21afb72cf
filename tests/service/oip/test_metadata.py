"""What the service says of itself: names, shapes and types come from the bundles' own specifications."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from models.bundle import load
from service.version import VERSION


def test_the_server_names_its_extension(client: TestClient) -> None:
    assert client.get("/v2").json() == {"name": "pkdot", "version": VERSION, "extensions": ["binary_tensor_data"]}


def test_a_loaded_service_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/pain/ready").json() == {"name": "pain", "ready": True}


def test_readiness_fails_while_draining_and_inference_goes_on(make_client: Any) -> None:
    client = make_client()
    client.app.state.lifecycle.draining = True
    eda = {"name": "eda", "shape": [1, 5], "datatype": "FP32", "data": [0] * 5}

    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/models/pain/ready").json() == {"name": "pain", "ready": False}
    assert client.post("/v2/models/pain/infer", json={"inputs": [eda]}).status_code == 200


AFFECT_INPUTS = [
    {"name": "face", "datatype": "UINT8", "shape": [-1, 2, 32, 32, 3]},
    {"name": "voice", "datatype": "FP32", "shape": [-1, 8, 100]},
]
GAZE = {"name": "gaze", "datatype": "FP32", "shape": [-1, 4, 3]}
EDA = {"name": "eda", "datatype": "FP32", "shape": [-1, 5]}


def output(name: str, *shape: int, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        ("affect", AFFECT_INPUTS, [output("values", 2), output("lower", 2), output("upper", 2)]),
        (
            "pain",
            [EDA],
            [
                output("logits", 2),
                output("probabilities", 3),
                output("expected"),
                output("conformal_set", 3, datatype="BOOL"),
            ],
        ),
        (
            "mood",
            [EDA, GAZE],
            [output("logits", 2), output("probabilities", 2), output("conformal_set", 2, datatype="BOOL")],
        ),
        ("stress", [GAZE], [output("values", 2), output("lower", 2), output("upper", 2)]),
    ],
)
def test_a_model_names_its_tensors(client: TestClient, model: str, inputs: list[Any], outputs: list[Any]) -> None:
    about = client.get(f"/v2/models/{model}").json()

    assert (about["name"], about["platform"]) == (model, "onnxruntime_onnx")
    assert about["inputs"] == inputs
    assert about["outputs"] == outputs
    assert client.get(f"/v2/models/{model}/versions/{about['versions'][0]}").json() == about


def test_the_version_is_the_bundles(client: TestClient, folder: Any) -> None:
    assert client.get("/v2/models/pain").json()["versions"] == [load(folder / "pain").version]


@pytest.mark.parametrize(
    ("model", "columns", "input_sets"),
    [
        ("affect", "valence,arousal", "face;voice;voice,face"),
        ("pain", "none,some,much", "eda"),
        ("mood", "calm,upset", "eda,gaze"),
        ("stress", "load,strain", "gaze"),
    ],
)
def test_parameters_say_what_the_columns_are_and_which_inputs_go_together(
    client: TestClient, model: str, columns: str, input_sets: str
) -> None:
    parameters = client.get(f"/v2/models/{model}").json()["parameters"]

    assert (parameters["columns"], parameters["input_sets"]) == (columns, input_sets)
    assert (parameters["confidence_level"], parameters["trained_on"]) == (0.9, "nothing")
