"""Recipes: what is wrong is said with its key."""

from pathlib import Path

import pytest

from training.config import ConfigError, load_config
from training.stages.methods import ROWS

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
        (
            "student.lambda=1",
            "student.lambda: there is no such key; expected one of epochs, batch, learning_rate, weight_decay, ",
        ),
        ("student.ot_wieght=1", "student.ot_wieght: there is no such key; did you mean ot_weight or"),
        ("studnet.k=3", "studnet: there is no such key; did you mean student or students"),
        ("inputs.face.frame=4", "inputs.face.frame: there is no such key; did you mean frames?"),
        ("network.encoders={face: {kind: small}}", "expected one of name, weights, model, frozen"),
        ("student={batch: 8, k: 9}", "k is 9, but a batch has only 8 samples"),
        ("students=[[eda]]", "a service can see a face and hear a voice"),
        ("students=[[voice]]", "not a non-empty part"),
        ("modalities=[face, gaze]", "inputs does not describe 'gaze'"),
        ("student.ot_weight=.nan", "student.ot_weight"),
        ("student={bank: 64, k: 4, anchors: nearest}", "student: bank is 64, beside which k=4, anchors=nearest would"),
        ("student={bank: 64, projection: 32, centre: person}", "projection=32, centre=person would do nothing"),
        ("student.apart=label", "student: apart is label, which does nothing while pair_cost is 0"),
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


def test_a_bank_needs_no_batch_to_choose_anchors_from() -> None:
    student = load_config(RECIPES / "synthetic-pain.yaml", ["student={bank: 64, batch: 8, centre: batch}"]).student

    assert (student.bank, student.batch, student.centre) == (64, 8, "batch")


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("settings", ["student.k=8", "student.anchors=nearest", "student.centre=batch"])
def test_the_row_with_a_bank_goes_with_any_choice_of_anchors(recipe: Path, settings: str) -> None:
    student = ROWS["PKDOT, bank"].change(load_config(recipe, [settings]).student)

    assert (student.bank, student.k, student.anchors) == (128, 15, "farthest")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_config(Path("nowhere.yaml"))


def test_a_recipe_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes("name: schönes".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"recipe\.yaml is not YAML in UTF-8"):
        load_config(recipe)
