import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram
from starlette.testclient import TestClient

from models.spec import Task
from service.app import create_app
from service.context import RequestContext
from service.settings import Settings
from service.telemetry.metrics import Telemetry

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"

CONTRACT = {
    "requests_total": "task,status,code",
    "request_seconds": "task",
    "stage_seconds": "task,stage",
    "requests_in_flight": "task",
    "batch_size": "",
    "batches_total": "bundle,version,outcome",
    "queue_items": "",
    "queue_predicted_seconds": "",
    "cancelled_total": "stage",
    "windows_total": "task,bundle,version,outcome",
    "modality_windows_total": "modality,state",
    "answer_value": "task,bundle,version,output",
    "hallucination_distance": "bundle,version,modality",
    "shadow_difference": "bundle,output",
    "spool_bytes": "",
    "decoder_exits_total": "cause",
    "streams": "",
    "stream_dropped_frames_total": "",
    "idempotent_total": "result",
    "sandbox_layer": "layer",
    "build_info": "version,ffmpeg,onnxruntime,provider",
    "bundle_info": "name,version",
    "ready": "",
}
"""What users' dashboards may rely on: names without `pkdot_`, and their labels."""


@pytest.fixture(scope="module")
def scraped() -> dict[str, str]:
    """The metrics of an app that has not started, with their types."""
    text = TestClient(create_app(Settings(bundles=Path("nowhere")))).get("/metrics").text
    types = dict(re.findall(r"^# TYPE pkdot_(\S+) (\S+)$", text, re.MULTILINE))
    return {name: kind for name, kind in types.items() if not name.endswith("_created")}


def test_every_metric_of_the_contract_is_scraped(scraped: dict[str, str]) -> None:
    assert set(CONTRACT) <= set(scraped)


def test_distributions_are_histograms_and_totals_are_counters(scraped: dict[str, str]) -> None:
    assert set(scraped.values()) == {"counter", "gauge", "histogram"}
    assert {name for name, kind in scraped.items() if kind == "counter"} == {
        name for name in scraped if name.endswith("_total")
    }


def test_metrics_have_the_labels_of_the_contract() -> None:
    metrics = {}
    for metric in vars(Telemetry(latency_objective_s=1)).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            metrics[family.name.removeprefix("pkdot_") + ("_total" if family.type == "counter" else "")] = metric
    for name, labels in CONTRACT.items():
        if labels:
            given = dict.fromkeys(labels.split(","), "x")
            assert metrics[name].labels(**given) is not None  # it refuses other labels than its own:
            with pytest.raises(ValueError, match="label"):
                metrics[name].labels(**given, another="x")


def test_the_page_names_every_metric_with_its_labels_and_no_other(scraped: dict[str, str]) -> None:
    rows = re.findall(
        r"^\| `pkdot_([a-z_]+)(?:\{([a-z_,]+)\})?` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert {name: kind for name, _, kind in rows} == scraped
    assert {name: labels for name, labels, _ in rows if name in CONTRACT} == CONTRACT


def test_what_alarms_wait_for_is_there_before_it_happens() -> None:
    telemetry = Telemetry(latency_objective_s=1)
    telemetry.bundle_answers("pain", "1")
    text = telemetry.exposition().decode()

    for series in (
        *(f'requests_total{{code="internal",status="500",task="{task}"}}' for task in get_args(Task)),
        *(f'requests_total{{code="spool_full",status="507",task="{task}"}}' for task in get_args(Task)),
        *(f'decoder_exits_total{{cause="{cause}"}}' for cause in ("crashed", "failed", "garbled")),
        'batches_total{bundle="pain",outcome="failed",version="1"}',
    ):
        assert f"pkdot_{series} 0.0\n" in text

    telemetry.forget("pain", "1")
    assert 'bundle="pain"' not in telemetry.exposition().decode()


def test_each_of_eleven_levels_of_pain_is_told_from_its_neighbours() -> None:
    telemetry = Telemetry(latency_objective_s=1)
    labels = {"task": "pain", "bundle": "rated", "version": "1", "output": "pain"}
    for level in range(11):
        telemetry.answer_value.labels(**labels).observe(level)

    counts = [
        telemetry.registry.get_sample_value("pkdot_answer_value_bucket", labels | {"le": f"{level:.1f}"})
        for level in range(11)
    ]
    assert counts == list(range(1, 12))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def report(telemetry: Telemetry) -> dict[str, float]:
    kind, _, fields = telemetry.load_report().partition(" ")
    assert kind == "TEXT"
    return {name: float(value) for name, _, value in (field.partition("=") for field in fields.split(","))}


def test_the_first_answer_of_an_idle_replica_reports_something_to_weigh_it_by() -> None:
    told = report(Telemetry(latency_objective_s=1, clock=Clock()))

    assert told["application_utilization"] == 0.01
    assert told["rps_fractional"] > 0
    assert (told["eps"], told["named_metrics.queue_seconds"]) == (0, 0)


def test_utilization_is_the_busy_share_and_the_queue_over_the_objective() -> None:
    clock = Clock()
    telemetry = Telemetry(latency_objective_s=0.1, clock=clock)
    for tenth in range(1000):  # half of each tenth of a second
        clock.now_s = tenth / 10
        telemetry.batch_ended(("pain", "1"), "ok", 4, 0.05)
    telemetry.queued_s = lambda: 0.3

    assert report(telemetry)["application_utilization"] == pytest.approx(0.5 + 3, abs=0.02)
    assert report(telemetry)["named_metrics.queue_seconds"] == 0.3


def test_rates_count_answers_and_errors_only_bugs() -> None:
    clock = Clock()
    telemetry = Telemetry(latency_objective_s=1, clock=clock)
    codes = ["ok", "internal", "no_face", "overloaded"]
    for number in range(400):  # four requests a second
        clock.now_s = number / 4
        context = RequestContext("a", None, 0.0, "pain", codes[number % 4])
        telemetry.request_began(context)
        telemetry.request_ended(context, 200, 0.1)

    assert report(telemetry)["rps_fractional"] == pytest.approx(4, rel=0.1)
    assert report(telemetry)["eps"] == pytest.approx(1, rel=0.1)


@given(
    busy=st.floats(0, 100),
    queue_s=st.floats(0, 1e6),
    passed_s=st.floats(0, 1e6),
)
def test_a_report_is_never_zero(busy: float, queue_s: float, passed_s: float) -> None:
    clock = Clock()
    telemetry = Telemetry(latency_objective_s=0.05, clock=clock)
    telemetry.computing.add(busy)
    telemetry.queued_s = lambda: queue_s
    clock.now_s = passed_s

    told = report(telemetry)
    assert told["application_utilization"] >= 0.01
    assert told["rps_fractional"] > 0


def server_timing(**values: Any) -> str:
    context = RequestContext("a", None, 0.0)
    context.largest_batch = values.pop("batch", 0)
    for stage, seconds in values.items():
        context.add(stage, seconds)
    return context.server_timing()


def test_server_timing_names_the_stages_that_were_reached_in_milliseconds() -> None:
    assert server_timing(inference=0.009, upload=0.001, decode=0.0204, batch=4) == (
        'upload;dur=1.000, decode;dur=20.400, inference;dur=9.000;desc="batch 4"'
    )
    assert server_timing() == "upload;dur=0.000"
