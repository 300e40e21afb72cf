"""Recipes: what is wrong is said with its key."""

from pathlib import Path

import pytest

from training.config import ConfigError, load_config

RECIPES = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads(recipe: Path) -> None:
    assert load_config(recipe).modalities


def test_set_changes_one_value() -> None:
    config = load_config(RECIPES / "synthetic-pain.yaml", ["student.ot_weight=0.4", "seed=7"])

    assert (config.student.ot_weight, config.seed) == (0.4, 7)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("student.lambda=1", "student.lambda: Extra inputs are not permitted"),
        ("student={batch: 8, k: 9}", "k is 9, but a batch has only 8 samples"),
        ("students=[[eda]]", "a service can see a face and hear a voice"),
        ("students=[[voice]]", "not a non-empty part"),
        ("modalities=[face, gaze]", "inputs does not describe 'gaze'"),
        ("student.ot_weight=.nan", "student.ot_weight"),
        ("seed", "write it as key=value"),
        ("seed.a=1", "seed holds a value, not keys"),
        ("splits.select=0.6", "leave under a tenth"),
        ("splits.protocol=random", "splits.protocol: Input should be 'subject-kfold', 'loso'"),
        ("corpus.task=regression", "biovid is a corpus of pain, not of regression"),
        ("corpus.levels=[BL1]", "must name two or more"),
        ("corpus={kind: features}", "a corpus of kind features needs `task`"),
        ("labels.fraction=0", "labels.fraction: Input should be greater than 0"),
        ("student.gradient_ratios=[]", "student.gradient_ratios: Tuple should have at least 1 item"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("students=[[face, face]]", "must follow the order of"),
        ("modalities=[face, face]", "names one twice"),
        ("students=[[face], [face]]", "the same set is named twice"),
        ("inputs.signals.resp={channels: [gsr], rate_hz: 16}", "no preparation for the signal 'resp'"),
        ("inputs.signals.eda.channels=[]", "inputs.signals.eda.channels"),
        ("inputs.voice={high_hz: 9000}", "mel bands must lie between 0 and half of sample_rate_hz"),
        ("student.k={", "'{' is not a value in YAML"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_key(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(RECIPES / "synthetic-pain.yaml", ["seed=1", override])

    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_config(Path("nowhere.yaml"))


def test_a_recipe_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes("name: schönes".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"recipe\.yaml is not YAML in UTF-8"):
        load_config(recipe)
