"""Spans, as a collector on the loopback receives them."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.testclient import TestClient

from service.settings import Settings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Keeps what is posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posts: list[tuple[str, bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for _, body in self.posts]
        return [
            span for request in requests for group in request.resource_spans
            for scope in group.scope_spans for span in scope.spans
        ]  # fmt: skip

    def resource(self) -> dict[str, str]:
        group = ExportTraceServiceRequest.FromString(self.posts[0][1]).resource_spans[0]
        return {pair.key: pair.value.string_value for pair in group.resource.attributes}


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.posts.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr("service.telemetry.tracing.EXPORT_TIMEOUT_S", 60.0)
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Traced = Callable[[], AbstractContextManager[TestClient]]


@pytest.fixture
def traced(bundles_folder: Path, collector: Collector, open_client: Any) -> Traced:
    """An app whose spans have all arrived when it is closed."""
    return lambda: open_client(Settings(bundles=bundles_folder, otlp_endpoint=collector.address))  # type: ignore[no-any-return]


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in span.attributes}


def test_a_prediction_continues_its_callers_trace_with_a_span_for_each_stage(
    traced: Traced, collector: Collector, clips: Path
) -> None:
    video = (clips / "single_face.mp4").read_bytes()
    with traced() as client:
        reply = client.post(
            "/predict/pain",
            files={"video": ("Jane Doe.mp4", video)},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "ward=7", "x-request-id": "abc"},
        )

    assert collector.resource()["service.name"] == "pkdot"
    assert {path for path, _ in collector.posts} == {"/v1/traces"}
    whole, *stages = sorted(collector.spans(), key=lambda span: span.name != "POST /predict/pain")
    assert (whole.name, whole.kind) == ("POST /predict/pain", Span.SPAN_KIND_SERVER)
    assert (whole.trace_id.hex(), whole.parent_span_id.hex(), whole.trace_state) == (TRACE, PARENT, "ward=7")
    facts = attributes(whole)
    assert facts == {
        "http.request.method": "POST",
        "http.route": "/predict/pain",
        "http.response.status_code": 200,
        "http.request.body.size": facts["http.request.body.size"],
        "http.response.body.size": len(reply.content),
        "pkdot.request_id": "abc",
        "pkdot.code": "ok",
        "pkdot.task": "pain",
    }
    assert facts["http.request.body.size"] > len(video)
    assert [span.name for span in sorted(stages, key=lambda span: span.start_time_unix_nano)] == [
        *("upload", "decode", "face", "queue", "inference")
    ]
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    timing = reply.json()["timing_ms"]
    for span in stages:
        lasted_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert lasted_ms == pytest.approx(timing[span.name], abs=0.01)
    (inference,) = (span for span in stages if span.name == "inference")
    assert attributes(inference)["pkdot.batch_size"] >= 1
    assert b"Jane" not in b"".join(body for _, body in collector.posts)


def test_a_request_without_a_trace_begins_one_which_is_in_the_log(
    traced: Traced, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    with traced() as client, caplog.at_level("INFO", "pkdot.requests"):
        client.get("/health/ready")
        client.post("/predict/pain", content=b"x", headers={"content-type": "text/plain"})

    (whole,) = collector.spans()
    assert (attributes(whole)["pkdot.code"], whole.parent_span_id) == ("unsupported_media", b"")
    assert f"trace={whole.trace_id.hex()}" in caplog.messages[-1]


def test_a_trace_that_its_caller_does_not_keep_is_not_sent(traced: Traced, collector: Collector) -> None:
    with traced() as client:
        client.get("/nowhere", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        client.get("/nowhere")

    (span,) = collector.spans()
    assert (span.name, span.trace_id.hex() == TRACE) == ("GET", False)


def test_a_bug_is_an_error_and_a_callers_mistake_is_not(
    traced: Traced, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced() as client:
        client.post("/predict/pain", content=b"x", headers={"content-type": "text/plain"})
        monkeypatch.setattr(client.app.state.lifecycle, "require", None)  # type: ignore[attr-defined]
        client.get("/models")

    codes = {span.name: span.status.code for span in collector.spans() if not span.parent_span_id}
    assert codes == {"POST /predict/pain": Status.STATUS_CODE_UNSET, "GET /models": Status.STATUS_CODE_ERROR}


def test_without_the_packages_the_setting_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    code = "import sys; sys.modules['opentelemetry.exporter'] = None; import pkdot; pkdot.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--bundles", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        env={"PKDOT_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "PKDOT_OTLP_ENDPOINT is set, but opentelemetry" in done.stderr
    assert "`otel`" in done.stderr
    assert done.returncode == 2


def test_without_the_setting_nothing_that_makes_spans_is_loaded() -> None:
    code = (
        "import sys; from service.app import create_app; from service.settings import Settings; "
        "create_app(Settings(bundles='x')); "
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
