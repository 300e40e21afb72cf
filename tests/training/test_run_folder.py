"""The folder of a run: damaged files are named, and a stage is done only when its checkpoint is there."""

from pathlib import Path

import pytest
import torch
import yaml

from training.config import ConfigError, load_config
from training.loop.checkpoint import load_weights
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


@pytest.mark.parametrize("name", ["metrics", "config", "contents"])
def test_a_damaged_record_is_named(tmp_path: Path, name: str) -> None:
    file = {"metrics": "metrics.json", "config": "config.yaml", "contents": "corpus.json"}[name]
    (tmp_path / "config.yaml").touch()
    (tmp_path / file).write_text("{broken: [")

    with pytest.raises(ConfigError, match=file):
        getattr(RunFolder(tmp_path), name)()


def test_what_makes_a_runs_settings_unusable_later_is_named(tmp_path: Path) -> None:
    weights = tmp_path / "resnet18.pt"
    weights.touch()
    face = ["network.encoders.face.name=resnet18", f"network.encoders.face.weights={weights}"]
    folder, config = RunFolder(tmp_path / "run"), load_config(RECIPE, face)
    folder.begin(config, {}, resume=False)
    weights.unlink()

    for again in (folder.config, lambda: folder.check(config, resume=True)):
        with pytest.raises(ConfigError) as raised:
            again()
        assert str(raised.value) == (
            f"{folder.path}/config.yaml: recipe: network.encoders.face.weights: {weights} is not a file; put that "
            "right, or train again"
        )


def test_a_run_goes_on_with_the_same_settings_only_and_later_ones_have_their_defaults(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), load_config(RECIPE)
    folder.begin(config, {}, resume=False)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["calibration"], values["student"]["apart"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))

    folder.check(config, resume=True)

    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        folder.check(load_config(RECIPE, ["student.pair_cost=0.25", "student.apart=label"]), resume=True)


def test_a_run_on_another_corpus_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), load_config(RECIPE)
    folder.begin(config, {"labels": "1", "people": "2", "splits": "3"}, resume=False)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}

    with pytest.raises(ConfigError) as raised:
        folder.begin(config, {"labels": "1", "people": "0", "splits": "0"}, resume=True)

    assert str(raised.value) == (
        f"{tmp_path} was made from other data: the corpus has changed since (people, splits); "
        "give another --out, or remove the folder, and train again"
    )
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("take", ["begin", "adopt"])
def test_a_run_of_an_earlier_version_goes_on_and_its_corpus_is_known_from_then_on(tmp_path: Path, take: str) -> None:
    folder, config = RunFolder(tmp_path), load_config(RECIPE)
    folder.begin(config, {"labels": "1"}, resume=False)
    (tmp_path / "corpus.json").unlink()

    folder.check_corpus({"labels": "2"})
    folder.adopt({"labels": "2"}) if take == "adopt" else folder.begin(config, {"labels": "2"}, resume=True)

    assert folder.contents() == {"labels": "2"}
    folder.adopt({"labels": "3"})
    assert folder.contents() == {"labels": "2"}


def test_a_folder_without_a_run_is_not_of_a_corpus(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "corpus.json").write_text('{"labels": "1"}')  # a kill came before config.yaml was written

    folder.check_corpus({"labels": "2"})
    folder.adopt({"labels": "2"})

    assert folder.contents() is None
    assert (tmp_path / "corpus.json").read_text() == '{"labels": "1"}'


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no checkpoint student-face\.pt; finish the run with --resume"):
        RunFolder(tmp_path).require("student-face")


def test_a_stage_is_kept_with_its_metrics(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    folder.finish("teacher", {"weight": torch.ones(2)}, {"losses": [1.0]})

    assert torch.equal(folder.require("teacher")["weight"], torch.ones(2))
    assert folder.metrics() == {"teacher": {"losses": [1.0]}}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.json", "teacher.pt"]
