"""What every answer tells of itself in its headers."""

import re
from pathlib import Path

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

LOAD = re.compile(r"TEXT application_utilization=([0-9.]+),rps_fractional=([0-9.]+),")
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
REFUSED_AT_THE_HEADERS = [
    ({"content-type": "text/plain"}, 415),
    (MULTIPART | {"x-request-timeout": "soon"}, 422),
    (MULTIPART | {"x-request-timeout": "1e-9"}, 504),
    (MULTIPART | {"idempotency-key": "a b"}, 422),
]


def stages(reply: Response) -> list[str]:
    return [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")]


@pytest.mark.parametrize(("headers", "status"), REFUSED_AT_THE_HEADERS)
def test_a_refusal_at_the_headers_has_server_timing_and_a_load_report(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    reply = client.post("/predict/pain", content=b"x", headers=headers)

    assert (reply.status_code, reply.headers["server-timing"]) == (status, "upload;dur=0.000")
    load = LOAD.match(reply.headers["endpoint-load-metrics"])
    assert load is not None
    assert float(load[1]) >= 0.01
    assert float(load[2]) > 0


def test_a_refusal_of_the_recording_tells_the_stages_that_it_reached(client: TestClient, clips: Path) -> None:
    unread = client.post("/predict/pain", files={"video": b"not a video"})
    faceless = client.post("/predict/pain", files={"video": (clips / "no_face.mp4").read_bytes()})

    assert stages(unread)[0] == "upload"
    assert (faceless.json()["code"], stages(faceless)[:3]) == ("no_face", ["upload", "decode", "face"])
    for reply in (unread, faceless):
        assert reply.headers["cache-control"] == "no-store"
        assert "endpoint-load-metrics" in reply.headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/predict/pain", 405), ("POST", "/v2/models/nobody/infer", 404)]
)
def test_a_refusal_before_the_task_is_known_has_both(client: TestClient, method: str, path: str, status: int) -> None:
    reply = client.request(method, path)

    assert (reply.status_code, reply.headers["server-timing"]) == (status, "upload;dur=0.000")
    assert LOAD.match(reply.headers["endpoint-load-metrics"])


@pytest.mark.parametrize("path", ["/models", "/health/ready", "/metrics", "/nowhere"])
def test_other_answers_have_neither(client: TestClient, path: str) -> None:
    reply = client.get(path)

    assert reply.headers["cache-control"] == "no-store"
    assert {"server-timing", "endpoint-load-metrics"} & set(reply.headers) == set()
