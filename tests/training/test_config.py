"""Recipes: what is wrong is said with its key."""

from pathlib import Path

import pytest

from training.config import ConfigError, load_config
from training.files.yaml_text import read_yaml
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
        ("student.gradient_ratios=[]", "student.gradient_ratios: expected a list of at least 1, got 0"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("students=[[face, face]]", "must follow the order of"),
        ("modalities=[face, face]", "names one twice"),
        ("modalities=[face, output]", "networks and bundles use 'output' themselves; give it another name"),
        ("modalities=[face, items]", "networks and bundles use 'items' themselves"),
        ("modalities=[face, uncertainty_eda]", "networks and bundles use 'uncertainty_eda' themselves"),
        ("students=[[face], [face]]", "the same set is named twice"),
        ("inputs.signals.resp={channels: [gsr], rate_hz: 16}", "no preparation for the signal 'resp'"),
        ("inputs.signals.eda.channels=[]", "inputs.signals.eda.channels"),
        (
            "inputs.signals.eda.rate_hz=0.08",
            "inputs: signals.eda.rate_hz is 0.08, at which a window of 5.5 s holds no sample; set it to 0.181818 or m",
        ),
        ("inputs.voice={high_hz: 9000}", "mel bands must lie between 0 and half of sample_rate_hz"),
        (
            "inputs.voice={form: waveform, mels: 64}",
            "inputs.voice.mels: there is no such key; expected one of form, sample",
        ),
        (
            "inputs.voice={form: waveform, sample_rate: 1}",
            "inputs.voice.sample_rate: there is no such key; did you mean s",
        ),
        ("inputs.voice={mel: 64}", "inputs.voice.mel: there is no such key; did you mean mels?"),
        ("inputs.voice=waveform", "inputs.voice: expected keys, among them form: waveform, or form: log-mel"),
        (f"seed={2**63}", f"seed: Input should be less than {2**63}"),
        (f"splits.seed={10**23}", f"splits.seed: Input should be less than {2**63}"),
        ("student={k: 3, k: 4}", "line 1, column 8: the key 'k' is there already"),
        pytest.param("student.k=" + "[" * 5000, "its values are nested too deeply", id="deep"),
        ("student.k={", "'{' is not a value in YAML"),
        (
            "corpus.standardise_by_person=[foo]",
            "corpus.standardise_by_person: 'foo' is not one of the signals and features among modalities, which are "
            "['eda', 'ecg', 'emg']",
        ),
        ("corpus.standardise_by_person=[eda, face]", "corpus.standardise_by_person: 'face' is not one of the signals"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_key(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(RECIPES / "synthetic-pain.yaml", ["seed=1", override])

    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_nets_are_trained_for_sets_that_clip_kfold_never_gives() -> None:
    both = ["splits.protocol=clip-kfold", "calibration.few_people=out-of-fold"]

    with pytest.raises(ConfigError, match=r"calibration\.few_people: out-of-fold does nothing with splits\.protocol"):
        load_config(RECIPES / "synthetic-pain.yaml", both)
    for one in both:
        load_config(RECIPES / "synthetic-pain.yaml", [one])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seed=1", "network.encoders.voice: small hears no waveform; set it to {name: huggingface, model: …}"),
        ("network.encoders.voice={name: small}", "network.encoders: voice cannot have small, only huggingface"),
    ],
)
def test_a_waveform_needs_a_model_that_hears_it(override: str, complaint: str) -> None:
    recipe = RECIPES / "synthetic-valence-arousal.yaml"
    waveform = "inputs.voice={form: waveform}"
    model = "network.encoders={voice: {name: huggingface, model: facebook/wav2vec2-base}}"

    assert load_config(recipe, [waveform, model]).inputs.shape("voice") == (32000,)
    with pytest.raises(ConfigError) as raised:
        load_config(recipe, [waveform, override])
    assert complaint in str(raised.value)


def test_an_encoder_of_what_the_inputs_do_not_describe_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="modalities: inputs does not describe 'gaze'"):
        load_config(RECIPES / "synthetic-pain.yaml", ["modalities=[face, gaze]", "network.encoders={gaze: {}}"])


@pytest.mark.parametrize(
    ("recipe", "overrides", "modality"),
    [
        ("synthetic-valence-arousal", [], "voice"),
        ("synthetic-pain", ["modalities=[face, eda, ecg]"], "emg"),
    ],
)
def test_what_is_fed_as_media_or_not_at_all_is_not_standardised_by_person(
    recipe: str, overrides: list[str], modality: str
) -> None:
    settings = [*overrides, f"corpus.standardise_by_person=[{modality}]"]

    with pytest.raises(ConfigError, match=f"corpus.standardise_by_person: '{modality}' is not one of the signals and"):
        load_config(RECIPES / f"{recipe}.yaml", settings)


def test_signals_and_features_are_standardised_by_person() -> None:
    pain = load_config(RECIPES / "synthetic-pain.yaml", ["corpus.standardise_by_person=[eda, emg]"])
    features = load_config(RECIPES / "synthetic-features.yaml", ["corpus.standardise_by_person=[face]"])

    assert pain.corpus.standardise_by_person == ("eda", "emg")
    assert features.corpus.standardise_by_person == ("face",)


def test_a_bank_needs_no_batch_to_choose_anchors_from() -> None:
    student = load_config(RECIPES / "synthetic-pain.yaml", ["student={bank: 64, batch: 8, centre: batch}"]).student

    assert (student.bank, student.batch, student.centre) == (64, 8, "batch")


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("settings", ["student.k=8", "student.anchors=nearest", "student.centre=batch"])
def test_the_row_with_a_bank_goes_with_any_choice_of_anchors(recipe: Path, settings: str) -> None:
    student = ROWS["PKDOT, bank"].change(load_config(recipe, [settings]).student)

    assert (student.bank, student.k, student.anchors) == (128, 15, "farthest")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("students=face", "students: expected a list, written as [a, b]"),
        ("students=[face]", "students.0: expected a list, written as [a, b]"),
        ("corpus.levels=BL1", "corpus.levels: expected a list, written as [a, b]"),
        (
            "inputs.features={text: {shape: [1, 2, 3]}}",
            "inputs.features.text.shape: expected a list of at most 2, got 3",
        ),
        ("splits=5", "splits: expected keys, written as {key: value}"),
        ("network.encoders=[face]", "network.encoders: expected keys, written as {key: value}"),
        ("student.normalise=maybe", "student.normalise: expected true or false"),
        ("corpus.aligned=[true]", "corpus.aligned: expected true or false"),
        ("corpus.root=3", "corpus.root: expected a path, written as text"),
    ],
)
def test_what_kind_of_value_is_expected_is_said_in_yamls_words(override: str, said: str) -> None:
    recipe = RECIPES / "synthetic-pain.yaml"

    with pytest.raises(ConfigError) as raised:
        load_config(recipe, [override])

    assert str(raised.value) == f"{recipe}: {said}"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_config(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: a\nseed: 1\nname: b\n", "line 3, column 1: the key 'name' is there already, in line 1; leave one out"),
        ("a: {b: 1, b: 1}", "line 1, column 11: the key 'b' is there already, in line 1; leave one out"),
        ("name: a\n  seed: 1\n", "line 2, column 7: mapping values are not allowed here"),
        ("name: a\nseed: [1\n", "line 3, column 1: expected ',' or ']', but got '<stream end>'"),
        ("name: a\nb: \x07", "line 2, column 4: the character #x0007 is not allowed"),
        ("name: 2026-02-30", "a value is none of its kind: day is out of range for month"),
        pytest.param("a: " + "[" * 5000, "its values are nested too deeply", id="deep"),
    ],
)
def test_what_is_no_yaml_is_one_sentence_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)

    with pytest.raises(ConfigError) as raised:
        load_config(recipe)

    assert str(raised.value) == f"{recipe} cannot be read as YAML: {complaint}"


def test_a_mapping_may_have_another_value_than_the_one_it_takes_over() -> None:
    assert read_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 3, "y": 4},
    }


def test_a_recipe_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes("name: schönes".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"recipe\.yaml is not YAML in UTF-8"):
        load_config(recipe)
