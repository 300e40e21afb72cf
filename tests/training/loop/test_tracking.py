"""Curves of a run: where they go, and what is said where the tracker is not there."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import ConfigError, RunConfig
from training.loop.tracking import tracking
from training.stages.setting import Setting

PROTOCOL = ("NOT SUBJECT-INDEPENDENT: 5 folds by clip.", "Standardised by person: eda.")
STAMP = "NOT SUBJECT-INDEPENDENT: 5 folds by clip. Standardised by person: eda."


@pytest.fixture
def config(toy_setting: Callable[[str], Setting]) -> RunConfig:
    return toy_setting("pain").config


def test_tensorboard_reads_what_was_tracked(config: RunConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking(config.model_copy(update={"tracker": "tensorboard"}), tmp_path, PROTOCOL) as track:
        track("teacher/loss", 0.5, 0)
        track("teacher/loss", 0.25, 1)

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("teacher/loss")] == [(0, 0.5), (1, 0.25)]
    (text,) = events.Tensors("protocol/text_summary")
    assert text.tensor_proto.string_val[0].decode() == STAMP


def test_mlflow_reads_what_was_tracked(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    with tracking(config.model_copy(update={"tracker": "mlflow"}), tmp_path, PROTOCOL) as track:
        track("ablation-k=4-face+voice-0.3/loss", 0.5, 3)

    (run,) = mlflow.search_runs(experiment_names=["pkdot"], output_format="list")
    assert run.data.params["task"] == "pain"
    assert run.data.metrics == {"ablation-k-4-face-voice-0.3/loss": 0.5}
    assert run.data.tags["protocol"] == STAMP


def test_nothing_is_written_where_nobody_tracks(config: RunConfig, tmp_path: Path) -> None:
    with tracking(config, tmp_path, PROTOCOL) as track:
        track("teacher/loss", 0.5, 0)

    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_not_installed_is_one_sentence(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    wanted = config.model_copy(update={"tracker": "mlflow"})

    with (
        pytest.raises(ConfigError, match="mlflow is not installed; run pip install"),
        tracking(wanted, tmp_path, PROTOCOL),
    ):
        pass
