"""The synthetic feature corpus: marked, the same again, and with a teacher worth distilling."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.corpora.feature_corpus import FeatureCorpus
from training.corpora.features import check_features, read_features
from training.corpora.synthetic_features import SyntheticFeatures, draw_features, synthesize_features
from training.files.replacing import FolderInUseError


def accuracy(corpus: FeatureCorpus, modalities: list[str]) -> float:
    """Ridge regression on the classes, four folds by person: the share that it gets right."""
    x = np.concatenate([corpus.modalities[name] for name in modalities], axis=1).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y: NDArray[np.float64] = np.eye(len(corpus.classes))[corpus.labels]
    people, right = sorted(set(corpus.group)), 0
    for fold in range(4):
        tested = np.isin(corpus.group, people[fold::4])
        gram = x[~tested].T @ x[~tested] + 10 * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x[~tested].T @ y[~tested])
        right += int(((x[tested] @ weights).argmax(axis=1) == corpus.labels[tested]).sum())
    return right / len(corpus)


def test_what_is_privileged_clearly_beats_what_is_prevalent() -> None:
    corpus = draw_features(SyntheticFeatures())

    face, voice, eda = (accuracy(corpus, [name]) for name in ("face", "voice", "eda"))

    assert 0.4 < face < 0.65  # chance is 0.25
    assert face + 0.05 < voice < eda
    assert eda > face + 0.25
    assert accuracy(corpus, ["face", "eda"]) > face + 0.2


def test_the_corpus_is_marked_and_without_a_problem(tmp_path: Path) -> None:
    synthesize_features(tmp_path / "features")

    corpus = read_features(tmp_path / "features")
    lines = check_features(tmp_path / "features")

    assert corpus.synthetic
    assert "Synthetic" in corpus.licence
    assert "Nobody was recorded" in (tmp_path / "features" / "SYNTHETIC.md").read_text()
    assert lines[0] == "synthetic-features: classification, 960 rows of 24 people in 960 clips"
    assert "class calm: 240 rows" in lines
    assert "sex female: 12 people" in lines


def test_the_same_settings_give_the_same_file_and_others_replace_it(tmp_path: Path) -> None:
    small = SyntheticFeatures(people=3, rows_per_class=2)
    synthesize_features(tmp_path / "one", small)
    first = (tmp_path / "one" / "features.npz").read_bytes()
    synthesize_features(tmp_path / "two", small)
    assert (tmp_path / "two" / "features.npz").read_bytes() == first

    synthesize_features(tmp_path / "one", small.model_copy(update={"seed": 2}))
    assert (tmp_path / "one" / "features.npz").read_bytes() != first
    assert len(read_features(tmp_path / "one")) == 3 * 4 * 2


def test_a_folder_with_anything_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(FolderInUseError):
        synthesize_features(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
