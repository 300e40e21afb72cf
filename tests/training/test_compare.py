"""The table of methods: fair, complete, and not computed twice."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from training.compare import compare, markdown
from training.stages.methods import BASIC, METHODS
from training.stages.setting import Setting


def test_the_table_has_every_row_for_every_seed_and_is_not_computed_twice(
    toy_setting: Callable[[str], Setting], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = toy_setting("pain")
    settings = {seed: toy.config.model_copy(update={"seed": seed}) for seed in (0, 1)}

    def prepare(config: object, scratch: Path) -> Setting:
        assert config in settings.values()
        scratch.mkdir(parents=True)
        return Setting(**{**vars(toy), "config": config, "scratch": scratch})

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a finished table was prepared again")

    monkeypatch.setattr("training.compare.prepare_setting", prepare)
    first = compare(toy.config, tmp_path, [0, 1], BASIC)
    monkeypatch.setattr("training.compare.prepare_setting", refuse)
    second = compare(toy.config, tmp_path, [0, 1], BASIC)

    rows = ["teacher (face+eda)", "student without privileged (face)", "hallucination only (face)", "PKDOT (face)"]
    assert list(first[0]) == list(second[1]) == rows
    assert first == second
    assert (tmp_path / "table.md").read_text() == markdown(toy.config, first)
    table = (tmp_path / "table.csv").read_text().splitlines()
    assert table[0] == "seed,row,score,value"
    assert len(table) == 1 + 2 * len(rows) * len(first[0][rows[0]])


def test_the_table_gives_mean_and_standard_deviation_over_seeds(toy_setting: Callable[[str], Setting]) -> None:
    config = toy_setting("pain").config
    scores = {
        0: {"PKDOT (face)": {"accuracy": 0.2, "accuracy_lowest_highest": 0.5}},
        1: {"PKDOT (face)": {"accuracy": 0.4, "accuracy_lowest_highest": 0.5}},
    }

    assert "| PKDOT (face) | 0.300 ± 0.141 | 0.500 ± 0.000 |" in markdown(config, scores)


def test_every_row_trains_and_each_control_has_a_teacher_of_its_own(
    toy_setting: Callable[[str], Setting], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = toy_setting("pain")
    quick = {name: {"epochs": 1, "batch": 8} for name in ("encoders", "teacher", "tnet")}
    values = toy.config.model_dump() | quick | {"student": {"epochs": 1, "batch": 8, "k": 4}}
    config = type(toy.config).model_validate(values)
    monkeypatch.setattr(
        "training.compare.prepare_setting",
        lambda config, scratch: scratch.mkdir(parents=True) or Setting(**{**vars(toy), "config": config}),
    )

    (rows,) = compare(config, tmp_path, [0], list(METHODS)).values()

    assert list(rows) == ["teacher (face+eda)", *(f"{method} (face)" for method in METHODS)]
    assert all(scores["clips"] == len(toy.test) for scores in rows.values())
    made = {file.stem for file in (tmp_path / "seed-0").glob("teacher*.pt")}
    assert made == {"teacher", "teacher-face", "teacher-eda"}
