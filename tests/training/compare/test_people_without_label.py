"""A comparison of a corpus some of whose people have no label: they train, and nobody is tested who cannot be."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.compare.cells import Row, cell_folder, protocol_sentences
from training.compare.compare import ReadCorpus, cells_of, check_cells, plan
from training.compare.report import compare_all
from training.config import RunConfig
from training.corpora.splits import SplitError
from training.run_folder import RunFolder
from training.stage_config import SplitConfig, StudentConfig
from training.stages.methods import ROWS
from training.stages.prepare import prepare_setting, read_windows

Recipe = Callable[..., RunConfig]
PEOPLE, EACH = 7, 6
QUICK = {"epochs": 1, "batch": 8}


@pytest.fixture
def labelled(tmp_path: Path) -> Recipe:
    """`labelled(label, **changes)`: a recipe that leaves one person out, on rows (7 people of 6) with these labels."""

    def write(label: NDArray[np.int64], eda: NDArray[np.float32] | None = None, **corpus: object) -> RunConfig:
        noise, n = np.random.default_rng(3), PEOPLE * EACH
        np.savez(
            tmp_path / "features.npz",
            task="classification",
            classes=["no", "yes", "other"],
            label=label,
            group=np.repeat([f"p{i}" for i in range(PEOPLE)], EACH),
            face=noise.normal(size=(n, 3)).astype(np.float32),
            eda=noise.normal(size=(n, 2)).astype(np.float32) if eda is None else eda,
        )
        return RunConfig.model_validate(
            {
                "name": "few",
                "corpus": {"kind": "features", "root": tmp_path, "task": "classification", **corpus},
                "inputs": {"window_s": 1.0, "hop_s": 1.0, "features": {"face": {"shape": [3]}, "eda": {"shape": [2]}}},
                "modalities": ["face", "eda"],
                "students": [["face"]],
                "network": {"steps": 1, "dim": 16, "fusion": "concat"},
                "splits": {"protocol": "loso"},
                **dict.fromkeys(("encoders", "teacher", "tnet"), QUICK),
                "student": {**QUICK, "k": 4},
                "tracker": "none",
            }
        )

    return write


def labels(last: int) -> NDArray[np.int64]:
    """Both classes by turns; the last person has `last` alone."""
    label = np.arange(PEOPLE * EACH) % 2
    label[-EACH:] = last
    return label


def test_a_person_who_has_only_pairs_trains_in_every_fold_and_is_not_left_out(labelled: Recipe, tmp_path: Path) -> None:
    config = labelled(labels(-1))

    report = compare_all([config], tmp_path / "runs", [0], ["prevalent only"], folds=None, jobs=1)

    table = report.data["few"]
    assert (table["people"], table["sentences"][0]) == (
        6, "leave one person out; 6 people, split seed 0; 1 more, without a label, only train; folds tested: 6.",
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "runs" / "few" / "seed-0").iterdir()) == [
        f"fold-{fold}" for fold in range(6)
    ]
    cells = cells_of(config, [0], None, read_windows(config))
    trained = [prepare_setting(cell, tmp_path / "scratch").train for cell in cells]
    assert [int((train.person == 6).sum()) for train in trained] == [EACH] * 6


def test_a_person_who_has_other_classes_alone_is_nobody(labelled: Recipe, tmp_path: Path) -> None:
    config = labelled(labels(2), levels=["no", "yes"])

    cells = cells_of(config, [0, 1], None, read_windows(config))

    assert [(cell.seed, cell.fold) for cell in cells] == [(seed, fold) for seed in (0, 1) for fold in range(6)]
    setting = prepare_setting(cells[0], tmp_path / "scratch")
    assert setting.split.sentence == "leave one person out; 6 people, split seed 0"
    assert setting.split.counts(setting.corpus.clips) == {"train": 3, "select": 1, "calibrate": 1, "test": 1}


def test_all_cells_are_looked_at_before_the_first_is_trained(labelled: Recipe, tmp_path: Path) -> None:
    eda = np.random.default_rng(4).normal(size=(PEOPLE * EACH, 2)).astype(np.float32)
    eda[2 * EACH : 3 * EACH] = np.nan  # this person can be tested, and cannot select
    config = labelled(labels(1), eda)
    read = read_windows(config)
    cells = cells_of(config, [0], None, read)
    cannot = [cell for cell in cells if raises(cell, read)]

    with pytest.raises(SplitError) as raised:
        plan(config, tmp_path / "runs", [0], ["KD"], folds=None)

    assert cannot != []
    assert cells[0] not in cannot
    sentence = (
        f"seed 0, fold {cannot[0].fold}: the select people have 0 labelled windows with face, eda; at least 1 are"
    )
    assert str(raised.value).startswith(sentence)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("row", "has"), [("ablation batch=128", "batch 128"), ("ablation k=30", "k 30")])
def test_a_row_whose_batch_or_k_is_more_than_there_are_windows_is_refused(
    labelled: Recipe, tmp_path: Path, row: str, has: str
) -> None:
    student = StudentConfig(epochs=1, batch=64, k=4)
    config = labelled(labels(1)).model_copy(update={"student": student})

    with pytest.raises(SplitError) as raised:
        plan(config, tmp_path / "runs", [0], ["KD", row], folds=1)

    assert re.fullmatch(
        rf"seed 0, fold 0: the row '{row}' has {has}, but the train people have only \d+ windows with face, eda; "
        "leave the row out",
        str(raised.value),
    )
    assert not (tmp_path / "runs").exists()


def test_a_row_whose_anchors_are_a_bank_needs_no_k_windows(labelled: Recipe, tmp_path: Path) -> None:
    config = labelled(labels(1)).model_copy(update={"splits": SplitConfig(protocol="loso", select=0.3, calibrate=0.3)})
    assert len(prepare_setting(config, tmp_path / "scratch").pairs) == 12 < ROWS["PKDOT, bank"].change(config.student).k

    planned = plan(config, tmp_path / "runs", [0], ["PKDOT, bank"], folds=1)

    assert [row.method for row in planned.rows] == ["teacher", "constant", "PKDOT, bank"]


def test_a_class_that_one_person_alone_has_is_named_where_nobody_learns_it(labelled: Recipe, tmp_path: Path) -> None:
    config = labelled(labels(2))

    report = compare_all([config], tmp_path / "runs", [0], ["prevalent only"], folds=None, jobs=1)

    (fold,) = (
        cell.fold for cell in cells_of(config, [0], None, read_windows(config)) if is_tested(cell, "p6", tmp_path)
    )
    sentence = (
        f"In 1 of 7 cells, first in seed 0, fold {fold}, no labelled training window is 'other', but test windows are: "
        "it cannot be learned there, and counts in the scores."
    )
    assert report.data["few"]["sentences"] == (
        "leave one person out; 7 people, split seed 0; folds tested: 7.", sentence,
    )  # fmt: skip
    assert sentence in (tmp_path / "runs" / "few" / "table.md").read_text()


def test_cells_of_an_earlier_version_name_no_class_that_nobody_learns(labelled: Recipe, tmp_path: Path) -> None:
    cells = [labelled(labels(1)).model_copy(update={"fold": fold}) for fold in (0, 1)]
    notes = {"split": "leave one person out", "notes": ["Signals: eda from eda."]}
    for cell, protocol in zip(cells, (notes, {**notes, "untaught": ["yes"]}), strict=True):
        folder = cell_folder(tmp_path, cell)
        folder.mkdir(parents=True)
        RunFolder(folder).add_metrics("protocol", protocol)

    said = protocol_sentences(tmp_path, cells)

    assert said[:2] == ["leave one person out; folds tested: 2.", "Signals: eda from eda."]
    assert [sentence[:41] for sentence in said[2:]] == ["In 1 of 2 cells, first in seed 0, fold 1,"]


def is_tested(cell: RunConfig, person: str, folder: Path) -> bool:
    """Whether the cell tests this person."""
    test = prepare_setting(cell, folder / "scratch").test
    return person in {test.people[i] for i in test.person.tolist()}


def raises(cell: RunConfig, read: ReadCorpus) -> bool:
    """Whether the cell could not be trained."""
    try:
        check_cells([cell], read, [Row("KD", ("face",))])
    except SplitError:
        return True
    return False
