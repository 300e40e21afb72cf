import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.context import Finished, RequestContext
from service.telemetry.logs import REQUESTS, JsonFormatter, RequestLines, TextFormatter, log_request, logger

ROOT = Path(__file__).parents[3]
HOSTILE = "/x\n2026-01-01 00:00:00,000 INFO pkdot.requests POST /predict/pain 200 ok request=forged\r\x1b[31m\u2028"
LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@contextmanager
def written(formatter: logging.Formatter, name: str = REQUESTS) -> Iterator[io.StringIO]:
    """What a logger writes meanwhile, whatever else is set up."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.getLogger(name)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def finished(*, path: str = "/predict/pain", status: int = 200, task: Any = "pain") -> Finished:
    context = RequestContext("ward-7", "4bf92f3577b34da6a3ce929d0e0e4736", 0.0, task)
    context.seconds = {"inference": 0.0125, "upload": 0.001}
    context.largest_batch = 4
    return Finished(context, "POST", path, "/predict/pain", status, 0.043, 1000, 500)


def test_a_request_is_one_line_of_text() -> None:
    with written(TextFormatter()) as stream:
        log_request(finished())

    (line,) = stream.getvalue().splitlines()
    assert line.partition("pkdot.requests ")[2] == (
        "POST /predict/pain 200 ok 43.0 ms request=ward-7 trace=4bf92f3577b34da6a3ce929d0e0e4736 "
        "client=- key=- task=pain "
        "upload=1.0 inference=12.5 batch=4 in=1000 out=500"
    )


def test_lines_of_requests_are_written_together_and_before_any_other_line() -> None:
    stream = io.StringIO()
    handler = RequestLines(stream)
    handler.setFormatter(logging.Formatter("%(message).10s"))
    told = logging.LogRecord(REQUESTS, logging.INFO, "", 0, "POST /predict", None, None)
    other = logging.LogRecord("pkdot", logging.INFO, "", 0, "a bundle", None, None)

    handler.handle(told)
    assert stream.getvalue() == ""
    handler.handle(other)
    assert stream.getvalue() == "POST /pred\na bundle\n"
    handler.handle(told)
    handler.flush()
    assert stream.getvalue() == "POST /pred\na bundle\nPOST /pred\n"


def test_a_request_is_one_object_of_json() -> None:
    with written(JsonFormatter()) as stream:
        log_request(finished())

    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "INFO",
        "logger": "pkdot.requests",
        "message": "request",
        "method": "POST",
        "path": "/predict/pain",
        "status": 200,
        "code": "ok",
        "duration_ms": 43.0,
        "request_id": "ward-7",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "client": None,
        "key": None,
        "task": "pain",
        "stages_ms": {"upload": 1.0, "inference": 12.5},
        "batch": 4,
        "request_bytes": 1000,
        "response_bytes": 500,
    }


def test_probes_are_only_seen_while_debugging_and_failures_always() -> None:
    with written(TextFormatter()) as stream:
        logger.setLevel(logging.INFO)
        log_request(finished(path="/health/ready", task=None))
        assert stream.getvalue() == ""
        log_request(finished(path="/nowhere", task=None, status=404))
        assert " /nowhere 404 " in stream.getvalue()


@pytest.mark.parametrize(("log_format", "begin"), [("json", '{"time": "'), ("text", "20")])
def test_the_service_logs_to_stderr_in_the_format_that_was_set(log_format: str, begin: str) -> None:
    code = (
        "import logging; from service.telemetry.logs import set_up_logging\n"
        f"set_up_logging({log_format!r}); logging.error('a\\nb')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    (line,) = done.stderr.splitlines()
    assert line.startswith(begin)
    assert "a\\nb" in line
    assert done.stdout == ""


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_path_is_one_word_of_bounded_length(formatter: logging.Formatter) -> None:
    with written(formatter) as stream:
        log_request(finished(path=HOSTILE + "x" * 10_000))

    (line,) = stream.getvalue().splitlines()
    assert "/x%0A2026-01-01%2000%3A00%3A00%2C000%20INFO%20pkdot.requests%20POST%20/predict/pain" in line
    assert len(line) < 2000
    assert line.isprintable()


@given(message=LINES, reason=LINES)
def test_no_message_and_no_exception_begins_a_line(message: str, reason: str) -> None:
    with written(TextFormatter(), "pkdot") as stream:
        try:
            raise ValueError(reason)
        except ValueError:
            logging.getLogger("pkdot").exception("%s", message)

    first, *others = stream.getvalue().removesuffix("\n").split("\n")
    assert " ERROR pkdot " in first
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in others)
    assert all(line.isprintable() or line.strip() for line in (first, *others))
    assert not any(control in stream.getvalue() for control in "\r\x0b\x0c\x1b\x85\u2028\u2029")


@given(message=LINES)
def test_json_keeps_every_message_in_its_line(message: str) -> None:
    with written(JsonFormatter(), "pkdot") as stream:
        logging.getLogger("pkdot").warning("%s", message)

    assert json.loads(stream.getvalue())["message"] == message
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_failed_request_shows_where_and_never_what(formatter: logging.Formatter) -> None:
    def read(field: str) -> None:
        try:
            float(field)
        except ValueError as error:
            raise LookupError(f"no window at {field}") from error

    name = bytes.fromhex("4a616e65").decode()  # not in the source, which a traceback shows
    with written(formatter) as stream:
        try:
            read(name)
        except LookupError:
            logger.exception("request %s failed", "ward-7")

    text = stream.getvalue()
    assert "request ward-7 failed" in text
    assert name not in text
    assert "in read" in text
    assert ("LookupError" in text, "ValueError" in text) == (True, True)
