"""The folder of a run: damaged files are named, and a stage is done only when its checkpoint is there."""

from pathlib import Path

import pytest
import torch
import yaml

from training.checkpoint import load_weights
from training.config import ConfigError, load_config
from training.run_folder import RunFolder

RECIPE = Path(__file__).parents[2] / "training" / "configs" / "synthetic-pain.yaml"
JUNK = [b"", b"not a checkpoint", b"PK\x03\x04 cut", b"\x80\x02."]


@pytest.mark.parametrize("content", JUNK)
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes, weights_only: bool) -> None:
    file = tmp_path / "teacher.pt"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"teacher\.pt is damaged; remove it and go on with --resume"):
        load_weights(file, weights_only=weights_only)


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
def test_a_damaged_record_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{broken: [")
    folder = RunFolder(tmp_path)

    with pytest.raises(ConfigError, match=name):
        _ = folder.metrics() if name == "metrics.json" else folder.config()


def test_a_run_goes_on_with_the_same_settings_only_and_later_ones_have_their_defaults(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), load_config(RECIPE)
    folder.begin(config, resume=False)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["calibration"], values["student"]["apart"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))

    folder.check(config, resume=True)

    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        folder.check(load_config(RECIPE, ["student.apart=label"]), resume=True)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no checkpoint student-face\.pt; finish the run with --resume"):
        RunFolder(tmp_path).require("student-face")


def test_a_stage_is_kept_with_its_metrics(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    folder.finish("teacher", {"weight": torch.ones(2)}, {"losses": [1.0]})

    assert torch.equal(folder.require("teacher")["weight"], torch.ones(2))
    assert folder.metrics() == {"teacher": {"losses": [1.0]}}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.json", "teacher.pt"]
