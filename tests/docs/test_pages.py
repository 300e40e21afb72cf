"""What the pages name is there, and the examples that others run unseen do what the page says."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from models.nets.network import NetworkSpec
from training.config import RunConfig, load_config
from training.corpora.features import check_features
from training.files.yaml_text import read_yaml
from training.scores.metrics import affect_metrics, classification_metrics, pain_metrics
from training.stages.prepare import prepare_setting

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")])
CODE = [f"/{path.relative_to(ROOT).as_posix()}" for path in [*ROOT.glob("*.py"), *ROOT.glob("[!.]*/**/*.py")]]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if not link.startswith("http")]

    lost = []
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_of_code_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`([a-z_0-9/]+\.py)\b", prose(page)))

    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in CODE)] == []


def test_the_features_file_and_the_recipe_of_the_page_fit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
    blocks = {language: code for language, code in BLOCK.findall(text) if language in ("python", "yaml")}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(tmp_path / "cache"))
    Path("make.py").write_text(blocks["python"], encoding="utf-8")
    Path("own.yaml").write_text(blocks["yaml"], encoding="utf-8")

    runpy.run_path("make.py")
    config = load_config(Path("own.yaml"))
    setting = prepare_setting(config, tmp_path / "scratch")

    assert [finding for finding in check_features(Path("features.npz")) if finding.startswith("problem")] == []
    assert [config.inputs.shape(modality) for modality in config.modalities] == [(17,), (1, 240)]
    assert config.students == (("face",),)
    assert sum(setting.split.counts(setting.corpus.clips).values()) == 10


def yaml_blocks(page: str) -> list[str]:
    return [code for language, code in BLOCK.findall((ROOT / "docs" / page).read_text()) if language == "yaml"]


def test_the_networks_of_the_page_are_settings_of_a_recipe(tmp_path: Path) -> None:
    block, _ = yaml_blocks("networks.md")
    (tmp_path / "resnet18.pth").touch()
    recipe = (ROOT / "training" / "configs" / "synthetic-pain.yaml").read_text()
    recipe = recipe.replace("modalities: [face,", "modalities: [face, voice,").replace(
        "  face:", "  voice: {}\n  face:"
    )
    (tmp_path / "own.yaml").write_text(recipe + block.replace("weights/", f"{tmp_path}/"), encoding="utf-8")
    whisper = [f"inputs.voice.{setting}" for setting in ("mels=80", "low_hz=0", "high_hz=8000")]

    network = load_config(tmp_path / "own.yaml", whisper).network

    assert {modality: encoder.name for modality, encoder in network.encoders.items()} == {
        "face": "resnet18",
        "voice": "huggingface",
        "eda": "spectrogram",
    }
    defaults = NetworkSpec()
    assert (network.dim, network.steps, network.fusion, network.tnet) == (
        *(defaults.dim, defaults.steps, defaults.fusion, defaults.tnet),
    )


def test_the_voice_of_the_page_is_heard_as_a_waveform() -> None:
    _, block = yaml_blocks("networks.md")
    recipe = read_yaml((ROOT / "training" / "configs" / "synthetic-valence-arousal.yaml").read_text())
    page = read_yaml(block)

    config = RunConfig.model_validate(recipe | page | {"inputs": recipe["inputs"] | page["inputs"]})

    assert (config.inputs.shape("voice"), config.inputs.shape("face")) == ((32000,), (8, 112, 112, 3))
    assert config.network.encoder("voice").name == "huggingface"


def test_the_page_names_every_score() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+)…?`", page.partition("**Scores**")[2].partition("**Tests.**")[0]))
    levels, two, values = np.array([0, 4]), np.array([0, 1]), np.array([[0.0, 0.5], [0.5, 1.0]])

    found = {*pain_metrics(np.eye(5)[levels], levels), *classification_metrics(np.eye(2), two)}
    found |= {re.sub("(?<=_)(valence|arousal)$", "", name) for name in affect_metrics(values, values)}

    assert found - named == set()
