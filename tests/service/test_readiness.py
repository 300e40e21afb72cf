"""A line of the log for each change of readiness."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.lifecycle import Lifecycle, Status
from service.readiness import ReadinessLog
from service.settings import Settings
from service.telemetry.metrics import Telemetry


def test_each_change_is_one_line_and_a_warning_where_it_is_bad(caplog: pytest.LogCaptureFixture) -> None:
    states: list[Status] = ["starting", "ok", "ok", "stalled", "stalled", "ok", "draining", "draining", "failed"]
    lifecycle = SimpleNamespace(status=lambda: states[0], without_progress_s=lambda: 12.34)
    log = ReadinessLog(cast("Lifecycle", lifecycle))
    with caplog.at_level(logging.INFO, "pkdot"):
        while states:
            log.look()
            states.pop(0)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "readiness: ready (before: starting)"),
        ("WARNING", "readiness: stalled, no batch has finished for 12.3 s (before: ready)"),
        ("INFO", "readiness: ready (before: stalled)"),
        ("INFO", "readiness: draining (before: ready)"),
        ("WARNING", "readiness: failed (before: draining)"),
    ]


def test_a_service_that_stalls_says_since_when(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle = Lifecycle(Settings(bundles=Path()), Telemetry(latency_objective_s=1.0))
    monkeypatch.setattr("service.lifecycle.time.monotonic", lambda: 130.0)
    lifecycle.resources = cast(
        "Any", SimpleNamespace(batcher=SimpleNamespace(last_progress_s=100.0, stalled=lambda: True))
    )
    ReadinessLog(lifecycle).look()

    assert [record.getMessage() for record in caplog.records] == [
        "readiness: stalled, no batch has finished for 30.0 s (before: starting)"
    ]


def test_only_the_first_reason_of_a_failure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    lifecycle = Lifecycle(Settings(bundles=Path()), Telemetry(latency_objective_s=1.0))
    lifecycle.fail("device 0 no longer computes")
    lifecycle.fail("device 1 no longer computes")

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "device 0 no longer computes")
    ]
    assert (lifecycle.failure, lifecycle.status()) == ("device 0 no longer computes", "failed")
