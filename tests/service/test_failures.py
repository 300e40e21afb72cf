"""What the log says of windows that fail: enough to find the cause, and never what was sent."""

import logging
from pathlib import Path

import numpy as np
import pytest

from service.batcher.batch import BatchReport
from service.bundles.loader import BundleLoader
from service.failures import EVERY_S, MAX_CAUSE_CHARS, FailureLog, told
from service.runtime.provider_options import CPU
from service.runtime.providers import Providers
from service.threads.plan import ThreadPlan


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def failed(key: str, *errors: Exception) -> BatchReport:
    return BatchReport(key, 8, 0.1, "failed", "device 1", errors)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.getMessage() for record in caplog.records]


def test_failures_are_said_once_a_minute_for_each_graph_with_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    log = FailureLog(lambda: (), clock)
    log.observe(failed("a", RuntimeError("first")))
    for n in range(50):
        log.observe(failed("a", RuntimeError("then"), RuntimeError(f"then {n}")))
    log.observe(failed("b", RuntimeError("other")))
    clock.now_s += EVERY_S - 1
    log.observe(failed("a", RuntimeError("not yet")))
    clock.now_s += 1
    log.observe(failed("a", RuntimeError("second")))

    assert messages(caplog) == [
        "failed windows: 1 of graph a, on device 1: RuntimeError: first",
        "failed windows: 1 of graph b, on device 1: RuntimeError: other",
        "failed windows: 102 of graph a, on device 1: RuntimeError: second",
    ]


@pytest.mark.parametrize("outcome", ["ok", "cancelled"])
def test_a_run_that_nobody_waited_for_has_not_failed(outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    errors = [RuntimeError("ended")] if outcome == "cancelled" else []
    FailureLog(lambda: ()).observe(failed("a", *errors)._replace(outcome=outcome))  # type: ignore[arg-type]

    assert messages(caplog) == []


def test_the_graph_is_named_as_its_bundle_names_it(affect_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = BundleLoader(Providers((CPU,)), ThreadPlan(cores=1, intra_op=1, decoders=1)).load(affect_bundle)
    key = loaded.runners[frozenset({"face", "voice"})].key
    FailureLog(lambda: (loaded,)).observe(failed(key, RuntimeError("no")))

    name = f"face_voice.onnx of bundle affect-test {loaded.bundle.version}"
    assert messages(caplog) == [f"failed windows: 1 of {name}, on device 1: RuntimeError: no"]


def test_onnxruntime_is_quoted_and_who_may_quote_a_caller_is_not(affect_bundle: Path) -> None:
    loaded = BundleLoader(Providers((CPU,)), ThreadPlan(cores=1, intra_op=1, decoders=1)).load(affect_bundle)
    session = loaded.runners[frozenset({"voice"})].session
    (fed,) = session.get_inputs()
    with pytest.raises(Exception, match="invalid dimensions") as raised:
        session.run(None, {fed.name: np.zeros((1, 3, 5), np.float32)})

    assert told(raised.value).startswith("InvalidArgument: [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid")
    assert told(RuntimeError("CUDA failure 719")) == "RuntimeError: CUDA failure 719"
    assert told(NotImplementedError("Ann's face")) == "NotImplementedError"
    assert told(ValueError("Ann's face")) == "ValueError"
    assert told(RuntimeError("x" * 9999)) == f"RuntimeError: {'x' * 9999}"[:MAX_CAUSE_CHARS]
