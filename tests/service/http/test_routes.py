import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.manifest import Calibration, Coverage
from service.context import new_context
from service.routes import calibration_reply

ROOT = Path(__file__).parents[3]


def test_health_and_readiness_of_a_loaded_service(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "ok"}
    assert client.get("/health/ready").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/models"])
def test_head_is_answered_as_get_is_and_documented_once(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    client = make_client()
    head, get = client.head(path), client.get(path)
    monkeypatch.setattr(client.app.state.lifecycle, "draining", True)  # type: ignore[attr-defined]
    drained = client.head(path).status_code

    assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
    assert drained == client.get(path).status_code == (503 if path == "/health/ready" else 200)
    assert set(client.get("/openapi.json").json()["paths"][path]) == {"get"}


def test_readiness_fails_first_while_draining_and_predictions_go_on(
    make_client: Callable[..., TestClient], clips: Path
) -> None:
    client = make_client()
    client.app.state.lifecycle.draining = True  # type: ignore[attr-defined]
    reply = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()})

    assert (client.get("/health/ready").status_code, client.get("/health/live").status_code) == (503, 200)
    assert (reply.status_code, reply.headers["connection"]) == (200, "close")
    assert "pkdot_ready 0.0" in client.get("/metrics").text


def test_a_device_that_hangs_for_minutes_needs_a_restart(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    lifecycle = client.app.state.lifecycle  # type: ignore[attr-defined]
    batcher = lifecycle.resources.batcher
    batcher.in_hand = [SimpleNamespace(began_s=0.0, expected_s=0.0)]
    batcher.last_progress_s -= 60
    assert (client.get("/health/ready").status_code, client.get("/health/live").status_code) == (503, 200)

    batcher.last_progress_s -= 120
    assert client.get("/health/live").status_code == 503
    batcher.in_hand = []


@pytest.mark.parametrize(
    ("quantile", "heuristic", "kind"), [(0.6, False, "conformal"), (0.6, True, "heuristic"), (None, False, "none")]
)
def test_models_says_what_sets_and_intervals_are_worth(quantile: float | None, heuristic: bool, kind: str) -> None:
    covered = Coverage(mean=0.91, tenth_percentile=0.75, width=2.5, people=11)
    calibration = Calibration(
        quantiles={"pain": quantile},
        people=7,
        windows=70,
        heuristic=heuristic,
        reason="So.",
        coverage={"pain": covered},
    )

    reply = calibration_reply(calibration).model_dump(mode="json")

    assert reply == {
        "kind": kind,
        "confidence_level": 0.9,
        "people": 7,
        "reason": "So.",
        "coverage": {"pain": {"mean": 0.91, "tenth_percentile": 0.75, "width": 2.5, "people": 11}},
    }


def test_models_lists_what_is_loaded(client: TestClient) -> None:
    reply = client.get("/models").json()

    by_name = {model["name"]: model for model in reply["models"]}
    assert set(by_name) == {"pain-test", "affect-test"}
    assert by_name["pain-test"]["levels"] == ["BL1", "PA1", "PA2", "PA3", "PA4"]
    (graph,) = by_name["pain-test"]["graphs"]
    assert (graph["available"], graph["hallucinated"]) == (["face"], ["eda", "ecg", "emg"])
    assert (graph["calibration"]["kind"], graph["calibration"]["people"]) == ("conformal", 12)
    assert by_name["pain-test"]["warnings"][0].startswith("synthetic:")
    kinds = {tuple(graph["available"]): graph["calibration"]["kind"] for graph in by_name["affect-test"]["graphs"]}
    assert kinds == {("face",): "conformal", ("voice",): "none", ("face", "voice"): "conformal"}
    assert reply["versions"]["provider"].endswith("ExecutionProvider")
    assert all(reply["versions"].values())


@pytest.mark.parametrize("given", ["abc-DEF_1.2", "x" * 128])
def test_a_proper_request_id_is_echoed(client: TestClient, given: str) -> None:
    assert client.get("/models", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, "ä".encode(), b'x";'])
def test_another_request_id_is_replaced(client: TestClient, given: bytes) -> None:
    replaced = client.get("/models", headers={b"x-request-id": given}).headers["x-request-id"]

    assert len(replaced) == 32
    assert replaced.encode() != given


def test_two_request_ids_are_replaced(client: TestClient) -> None:
    replaced = client.get("/models", headers=[("x-request-id", "a"), ("x-request-id", "b")]).headers["x-request-id"]

    assert len(replaced) == 32


def test_two_traces_are_none_and_the_states_of_one_are_one_list() -> None:
    trace, other = (b"00-" + digit * 32 + b"-00f067aa0ba902b7-01" for digit in (b"a", b"b"))
    states = [(b"tracestate", b"ward=7"), (b"tracestate", b"bed=2")]

    doubled = new_context([(b"traceparent", trace), (b"traceparent", other), *states], 0.0)
    context = new_context([(b"traceparent", trace), *states], 0.0)

    assert (doubled.traceparent, doubled.trace_id, doubled.tracestate) == (None, None, "")
    assert (context.traceparent, context.tracestate) == (trace.decode(), "ward=7,bed=2")


def test_the_trace_of_the_caller_is_in_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with caplog.at_level("DEBUG", "pkdot.requests"):
        client.get("/models", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        client.get("/models", headers={"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"})

    lines = [record.getMessage() for record in caplog.records if record.name == "pkdot.requests"]
    assert f"trace={trace}" in lines[0]
    assert "trace=-" in lines[1]


def test_metrics_count_what_was_answered(make_client: Callable[..., TestClient], clips: Path) -> None:
    client = make_client()
    video = (clips / "face_noface.mov").read_bytes()
    version = client.post("/predict/valence-arousal", files={"video": video}).json()["bundle"]["version"]
    client.post("/predict/pain", files={"video": b"x"})

    samples = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[:1] != "#")
    bundle = f'bundle="affect-test",output="valence",task="valence-arousal",version="{version}"'
    expected = {
        'pkdot_requests_total{code="ok",status="200",task="valence-arousal"}': 1,
        'pkdot_requests_total{code="unsupported_media",status="415",task="pain"}': 1,
        'pkdot_request_seconds_count{task="valence-arousal"}': 1,
        'pkdot_stage_seconds_count{stage="inference",task="valence-arousal"}': 1,
        'pkdot_requests_in_flight{task="valence-arousal"}': 0,
        'pkdot_modality_windows_total{modality="face",state="hallucinated"}': 3,
        'pkdot_modality_windows_total{modality="voice",state="observed"}': 3,
        f"pkdot_answer_value_count{{{bundle}}}": 4,
        f'pkdot_windows_total{{bundle="affect-test",outcome="answered",task="valence-arousal",version="{version}"}}': 4,
        f'pkdot_bundle_info{{name="affect-test",version="{version}"}}': 1,
        "pkdot_batch_size_sum": 4,
        "pkdot_queue_items": 0,
        "pkdot_queue_predicted_seconds": 0,
        "pkdot_spool_bytes": 0,
        "pkdot_ready": 1,
    }
    assert {name: float(samples[name]) for name in expected} == expected
    batches = [float(v) for n, v in samples.items() if n.startswith("pkdot_batches_total") and 'outcome="ok"' in n]
    assert sum(batches) == float(samples["pkdot_batch_size_count"]) >= 2
    assert any(name.startswith("pkdot_build_info{ffmpeg=") for name in samples)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def test_openapi_describes_every_route_and_resolves_every_reference(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        *("/predict/pain", "/predict/valence-arousal", "/health/live", "/health/ready", "/metrics", "/models"),
    }
    for reference in references(document):
        place: Any = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]
    for path, operations in document["paths"].items():
        for method in operations:
            assert client.request(method, path).status_code not in {404, 405}


def test_openapi_describes_every_field_of_every_answer(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    assert "not of the pain that somebody feels" in schemas["PainReply"]["description"]
    assert "calibrated to each person" in schemas["PainReply"]["properties"]["level"]["description"]
    assert [
        f"{name}.{key}"
        for name, schema in schemas.items()
        for key, field in schema["properties"].items()
        if not field.get("description")
    ] == []


def test_openapi_documents_the_forms_and_the_problems(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict/pain"]["post"]

    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {
        *("video", "frames", "fps", "start_s", "end_s", "hop_s", "bundle", "face", "detail"),
    }
    assert all(field["description"] for field in form["properties"].values())
    statuses = {"200", "400", "401", "408", "413", "415", "421", "422", "429", "500", "503", "504", "507"}
    assert set(operation["responses"]) == statuses
    problem = operation["responses"]["422"]["content"]
    assert problem == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_the_answer_matches_its_documented_schema(client: TestClient, clips: Path) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    answer = client.post("/predict/pain", files={"frames": (clips / "single_face.jpg").read_bytes()}).json()

    assert set(schemas["PainAnswerReply"]["properties"]) == set(answer)
    assert set(schemas["PainWindow"]["properties"]) == {*answer["windows"][0], "frames"}
    assert set(schemas["PainReply"]["properties"]) == set(answer["windows"][0]["pain"])


def test_the_documentation_page_takes_everything_from_this_service(client: TestClient) -> None:
    taken = re.findall(r"""(?:src|href)=["']([^"']+)""", client.get("/docs").text)

    assert len(taken) >= 2
    assert [path for path in taken if client.get(path).status_code != 200 or "//" in path] == []


def test_the_service_loads_no_torch_and_no_training_code() -> None:
    code = "import sys, json, service.app, service.cli; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {name.split(".")[0] for name in json.loads(run.stdout)}
    assert loaded & {"torch", "training", "onnx", "onnxscript"} == set()
