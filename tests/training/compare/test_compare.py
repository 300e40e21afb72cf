"""The table of methods: fair, complete, and not computed twice."""

import csv
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from pkdot import main
from training.compare.compare import compare, plan, rows_of
from training.compare.failures import Failure
from training.compare.page import write_page
from training.compare.report import compare_all, rows_for_calibration
from training.compare.table import adjusted, make_table
from training.compare.table_text import latex, markdown
from training.config import ConfigError, RunConfig
from training.errors import NotConverged, TrainingError
from training.run_folder import RunFolder
from training.scores.predictions import Predictions, load_predictions
from training.scores.statistics import compare_scores
from training.stages.calibration import fitted_temperature
from training.stages.kept import load_row, load_teacher
from training.stages.methods import BASIC, METHODS, ROWS, VARIATIONS
from training.stages.setting import Setting
from training.stages.student import StudentError, Trained, train_student

MakeSetting = Callable[[str], Setting]
QUICK: dict[str, Any] = {name: {"epochs": 1, "batch": 8} for name in ("encoders", "teacher", "tnet")}
QUICK["student"] = {"epochs": 1, "batch": 8, "k": 4}


@pytest.fixture
def toys(toy_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """`toys(task, **config)`: a configuration whose corpus is the toy people."""

    def make(task: str, **values: object) -> RunConfig:
        toy = toy_setting(task)
        config = RunConfig.model_validate(toy.config.model_dump() | values)

        @contextmanager
        def open_toy(cell: RunConfig, folder: Path) -> Iterator[Setting]:
            (folder / "scratch").mkdir(parents=True, exist_ok=True)
            yield replace(toy, config=cell, scratch=folder / "scratch")

        monkeypatch.setattr("training.compare.compare.open_setting", open_toy)
        monkeypatch.setattr(
            "training.compare.compare.read_windows", lambda _: (toy.corpus, SimpleNamespace(windows=toy.train))
        )
        monkeypatch.setattr("training.compare.compare.contents_of", lambda *_: toy.contents)
        monkeypatch.setattr("training.compare.compare.check_cells", lambda *_: None)  # they are the toy people
        return config

    return make


def test_the_table_has_every_row_for_every_seed_and_is_not_computed_twice(
    toys: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = toys("pain", **QUICK)

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a finished table was prepared again")

    first = compare_all([config], tmp_path, [0, 1], BASIC, folds=1, jobs=1)
    monkeypatch.setattr("training.compare.compare.open_setting", refuse)
    second = compare_all([config], tmp_path, [0, 1], BASIC, folds=1, jobs=1)

    students = ["student without privileged (face)", "hallucination only (face)", "PKDOT (face)"]
    rows = ["teacher (face+eda)", "constant", *students]
    assert list(first.data["toy-pain"]["rows"]) == rows
    assert json.dumps(first.data) == json.dumps(second.data)
    made = {file.name for file in (tmp_path / "toy-pain").iterdir()}
    tables = {"table.csv", "table.md", "table.tex", "people.csv", "groups.csv"}
    assert tables | {"plots", "report.html", "seed-0", "seed-1"} <= made
    plots = {file.name for file in (tmp_path / "toy-pain" / "plots").iterdir()}
    assert plots == {"rows.png", "calibration.png", "matrices-PKDOT-face.png"}
    table = list(csv.DictReader((tmp_path / "toy-pain" / "table.csv").read_text().splitlines()))
    assert {line["row"] for line in table} == set(rows)
    page = (tmp_path / "toy-pain" / "report.html").read_text()
    assert set(re.findall(r"<figcaption>(.*?)</figcaption>", page)) == plots
    assert [row for row in rows if f"<td>{row}</td>" not in page] == []


def test_pictures_of_an_earlier_table_are_not_shown_with_another(
    toys: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = toys("pain", **QUICK)
    compare_all([config], tmp_path, [0], ["PKDOT", "ablation k=4"], folds=1, jobs=1)
    plots = tmp_path / "toy-pain" / "plots"
    assert {file.name for file in plots.iterdir()} == {
        *("rows.png", "ablations.png", "calibration.png", "matrices-PKDOT-face.png"),
    }
    (plots / "my-own.svg").write_text("<svg/>")

    compare_all([config], tmp_path, [0], ["ablation k=4"], folds=1, jobs=1)

    assert {file.name for file in plots.iterdir()} == {"rows.png", "ablations.png", "calibration.png", "my-own.svg"}
    page = (tmp_path / "toy-pain" / "report.html").read_text()
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == ["ablations.png", "calibration.png", "rows.png"]


def test_of_many_rows_the_calibration_of_those_that_are_compared_is_shown() -> None:
    rows = ["teacher (face+eda)", "constant", *(f"{method} (face)" for method in [*METHODS, "ablation k=4"])]

    shown = rows_for_calibration(rows)

    assert shown == [
        *("teacher (face+eda)", "prevalent only (face)", "student without privileged (face)"),
        *("hallucination only (face)", "KD (face)", "PKDOT (face)", "PKDOT balanced (face)", "KD + PKDOT (face)"),
    ]
    assert rows_for_calibration(rows[:4]) == [rows[0], *rows[2:4]]


def test_every_recipe_is_looked_at_before_the_first_is_trained(toys: Callable[..., RunConfig], tmp_path: Path) -> None:
    good = toys("pain", **QUICK)
    bad = good.model_copy(update={"name": "bad", "students": (good.modalities,)})

    sentence = r"^bad: students: nothing is privileged, since each has all of modalities \['face', 'eda'\]; leave out"
    with pytest.raises(ConfigError, match=sentence):
        compare_all([good, bad], tmp_path, [0], ["KD"], folds=1, jobs=1)

    assert list(tmp_path.iterdir()) == []


def test_a_comparison_that_was_stopped_goes_on_with_the_row_it_had_not_done(
    toys: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = toys("pain", **QUICK)
    compare(plan(config, tmp_path, [0], BASIC[:1], folds=1), jobs=1)
    trained = []
    finish = RunFolder.finish

    def watch(self: RunFolder, stage: str, weights: Any, metrics: Any) -> None:
        trained.append(stage)
        finish(self, stage, weights, metrics)

    monkeypatch.setattr(RunFolder, "finish", watch)
    compare(plan(config, tmp_path, [0], BASIC, folds=1), jobs=1)

    assert trained == ["tnet-face", "hallucination-only-face", "PKDOT-face"]


def test_the_bar_counts_rows_from_those_that_were_done_so_that_one_cell_has_a_time_left_too(
    toys: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = toys("pain", **QUICK)
    compare(plan(config, tmp_path, [0], BASIC[:1], folds=1), jobs=1)
    capsys.readouterr()

    compare(plan(config, tmp_path, [0], BASIC, folds=1), jobs=1)

    shown = [line for line in re.split(r"[\r\n]", capsys.readouterr().err) if line.startswith("toy-pain:")]
    assert "| 3/5 [" in shown[0]
    assert "| 5/5 [" in shown[-1]


def test_a_comparison_made_before_there_was_a_constant_row_gets_it_without_training(
    toys: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = toys("pain", **QUICK)
    compare(plan(config, tmp_path, [0], BASIC[:1], folds=1), jobs=1)
    (made,) = tmp_path.rglob("constant.npz")
    made.unlink()
    others = {file: file.stat().st_mtime_ns for file in [*tmp_path.rglob("*.npz"), *tmp_path.rglob("*.pt")]}

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("something was trained again")

    monkeypatch.setattr(RunFolder, "finish", refuse)
    results = compare(plan(config, tmp_path, [0], BASIC[:1], folds=1), jobs=1).results

    # the toy people have every level equally often
    assert results["constant"][0].said.tolist() == [[0.2] * 5] * 15
    assert {file: file.stat().st_mtime_ns for file in others} == others


def test_each_row_has_a_temperature_of_its_own_from_the_selection_people(
    toys: Callable[..., RunConfig], toy_setting: MakeSetting, tmp_path: Path
) -> None:
    config = toys("classification", **QUICK)
    compare(plan(config, tmp_path, [0], BASIC[:1], folds=1), jobs=1)

    folder = RunFolder(tmp_path / "seed-0" / "fold-0")
    setting = replace(toy_setting("classification"), config=config)
    nobody = replace(setting, test=setting.test.pick(torch.zeros(len(setting.test), dtype=torch.bool)))
    _, constant, student = rows_of(config, BASIC[:1])
    nets = {
        "teacher-face+text": load_teacher(setting, folder),
        student.file: load_row(setting, folder, ("face",), student.file, ROWS[BASIC[0]]),
    }
    metrics = folder.metrics()
    assert {name for name in metrics if name.startswith("temperature")} == {f"temperature_fit {file}" for file in nets}
    for (file, net), needed in zip(nets.items(), (("face", "text"), ("face",)), strict=True):
        said = load_predictions(folder.path / "predictions" / f"{file}.npz")
        fit = fitted_temperature(nobody, net, needed)
        assert fit is not None
        assert metrics[f"temperature_fit {file}"] == fit._asdict() | {
            "test_ece_before": said.calibration_error(),
            "test_ece_after": said.with_temperature().calibration_error(),
        }
        assert said.with_temperature().calibration_error() != said.calibration_error()
    assert load_predictions(folder.path / "predictions" / f"{constant.file}.npz").calibrated is None


def unsolved(z: Tensor, _: Tensor, *, blur: float) -> NoReturn:
    raise NotConverged(f"nothing couples {len(z)} samples at {blur}")


def unsolved_while_training(z: Tensor, teacher: Tensor, *, blur: float) -> Tensor:
    return z.square().sum() if z.is_leaf else unsolved(z, teacher, blur=blur)  # a leaf where weights are chosen


def diverged(z: Tensor, _: Tensor, *, blur: float) -> Tensor:
    return z.sum() * float("nan") * blur


@pytest.fixture
def failing(
    toys: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., Tensor]], RunConfig]:
    """`failing(loss)`: a quick configuration in which `loss` stands for Gromov-Wasserstein where the seed is 1."""

    def make(loss: Callable[..., Tensor]) -> RunConfig:
        def train(setting: Setting, *others: Any) -> Trained:
            with monkeypatch.context() as patch:
                if setting.config.seed == 1:
                    patch.setattr("training.stages.terms.gromov_loss", loss)
                return train_student(setting, *others)

        monkeypatch.setattr("training.stages.kept.train_student", train)
        return toys("pain", **QUICK)

    return make


def test_a_row_that_does_not_converge_in_one_cell_costs_that_row_and_is_not_tried_again(
    failing: Callable[[Callable[..., Tensor]], RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = failing(unsolved_while_training)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "runs" / config.name
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    rows = ["student without privileged", "Gromov-Wasserstein", "KD"]
    command = f"pkdot compare {recipe} --out {out.parent} --seeds 2 --folds 1 --methods"
    monkeypatch.setattr("sys.argv", [*command.split(), *rows])
    always_saves = SimpleNamespace(monotonic=partial(next, count(0, 100)))
    monkeypatch.setattr("training.loop.loop.time", always_saves)

    with pytest.raises(SystemExit) as first:
        main()
    monkeypatch.setattr("training.compare.compare.open_setting", None)  # what would be called to run anything again
    said = capsys.readouterr()
    with pytest.raises(SystemExit) as second:
        main()

    assert (first.value.code, second.value.code) == (1, 1)
    place = "not converged in 1 of 2 cells"
    sentence = (
        f"Gromov-Wasserstein (face) has no score: {place}, first in seed 1, fold 0: nothing couples 8 samples at 0.1"
    )
    again = capsys.readouterr()
    assert again.out == said.out
    assert [text.endswith(f"\npkdot: {config.name}: {sentence}\n") for text in (said.err, again.err)] == [True, True]
    table = (out / "table.md").read_text()
    assert f"| Gromov-Wasserstein (face) | – | – | – | {place} | – |" in table
    assert [(out / name).read_text().count(sentence) for name in ("table.md", "table.tex", "report.html")] == [1, 1, 1]
    lines = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [line["score"] for line in lines if line["row"] == "Gromov-Wasserstein (face)"] == [place]
    assert [line["row"] for line in lines if line["score"] == "less_lower_bound_B"] == ["KD (face)"]
    assert list(out.rglob("*.state")) == []  # the next row would go on from it


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (unsolved, "nothing couples 8 samples at 0.1"),
        (diverged, "student: face: the loss became nan; lower the learning rate or look at the data"),
    ],
)
def test_why_a_row_did_not_converge_is_kept(
    failing: Callable[[Callable[..., Tensor]], RunConfig],
    tmp_path: Path,
    loss: Callable[..., Tensor],
    reason: str,
) -> None:
    results, failures, *_ = compare(plan(failing(loss), tmp_path, [1], ["Gromov-Wasserstein"], folds=1), jobs=1)

    assert list(results) == ["teacher (face+eda)", "constant"]
    assert failures == {"Gromov-Wasserstein (face)": Failure(cells=1, of=1, where="seed 1, fold 0", reason=reason)}


def test_a_row_that_does_not_converge_leaves_nothing_to_go_on_from(
    failing: Callable[[Callable[..., Tensor]], RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(setting: Setting, *others: Any) -> NoReturn:
        (setting.scratch / f"{others[-1]}.ratios").touch()  # of two ratios the first was done
        raise StudentError("the loss became nan")

    config = failing(unsolved)
    monkeypatch.setattr("training.stages.kept.train_student", fail)

    failures = compare(plan(config, tmp_path, [0], ["KD"], folds=1), jobs=1).failures

    assert list(failures) == ["KD (face)"]
    assert list(tmp_path.rglob("*.ratios")) == []


@pytest.mark.parametrize(
    ("student", "row", "complaint"),
    [
        ({"k": 4, "batch": 8}, "ablation k=30", "student: k is 30, but a batch has only 8 samples"),
        ({"projection": 16}, "PKDOT, bank", "student: bank is 128, beside which projection=16 would do nothing"),
        ({"bank": 8}, "PKDOT, projected", "student: bank is 8, beside which projection=32 would do nothing"),
        ({"bank": 8}, "PKDOT from privileged", "student.bank holds what the joint teacher says"),
        ({"bank": 8}, "PKDOT from labels", "student.bank holds what the joint teacher says"),
    ],
)
def test_a_row_that_does_not_go_with_the_recipe_is_refused_before_anything_is_run(
    toys: Callable[..., RunConfig], tmp_path: Path, student: dict[str, int], row: str, complaint: str
) -> None:
    config = toys("pain", student=student)

    with pytest.raises(ConfigError) as raised:
        compare(plan(config, tmp_path, [0], ["KD", row], folds=1), jobs=1)

    assert str(raised.value).startswith(f"the row {row!r} cannot be made from toy-pain: {complaint}")
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_does_not_converge_ends_the_comparison(
    failing: Callable[[Callable[..., Tensor]], RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise TrainingError("teacher: the loss became nan")

    monkeypatch.setattr("training.stages.kept.train_teacher", fail)

    with pytest.raises(TrainingError, match="teacher"):
        compare(plan(failing(unsolved), tmp_path, [0], ["KD"], folds=1), jobs=1)


@pytest.mark.parametrize("task", ["pain", "regression"])
def test_every_row_trains_and_each_teacher_is_trained_once(
    toys: Callable[..., RunConfig], tmp_path: Path, task: str
) -> None:
    config = toys(task, **QUICK)
    methods = [*METHODS, *VARIATIONS]

    results, failures, *_ = compare(plan(config, tmp_path, [0], methods, folds=1), jobs=1)

    assert failures == {}
    assert list(results) == [row.name for row in rows_of(config, methods)]
    sizes = {len(said.item) for runs in results.values() for said in runs}
    assert len(sizes) == 1
    second = config.modalities[1]
    both = f"face+{second}"
    made = {file.stem for file in (tmp_path / "seed-0" / "fold-0").glob("*.pt")}
    assert {name for name in made if name.startswith(("teacher", "aligned"))} == {
        *("teacher", "teacher-face", f"teacher-{second}"),
        *(f"teacher-{what}-cross{n}" for what in (both, "face", second) for n in (0, 1)),
        *("aligned-face", "aligned-cross0-face", "aligned-cross1-face"),
    }


def test_the_page_holds_every_plot_and_how_the_table_came_about_and_asks_nobody(tmp_path: Path) -> None:
    people = _people({"p0": [True, False], "p1": [True, True]})
    stamp = "NOT SUBJECT-INDEPENDENT: 5 folds of clips <by seed 0>"
    table = make_table("toy", {"KD (voice)": [people]}, [stamp])
    plots = {name: name.encode() for name in ("rows.png", "ablations.png", "matrices-KD-voice.png")}
    for name, content in plots.items():
        (tmp_path / name).write_bytes(content)

    write_page(table, tmp_path, tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    shown = dict(re.findall(r'<img alt="(.*?)" src="data:image/png;base64,(.*?)">', page))
    assert {name: b64decode(data) for name, data in shown.items()} == plots
    assert "1 seeds, 2 people. NOT SUBJECT-INDEPENDENT: 5 folds of clips &lt;by seed 0&gt;" in page
    assert "<td>KD (voice)</td><td>0.750</td>" in page
    assert re.findall(r"https?:|//", re.sub('base64,[^"]*', "", page)) == []


def _people(right: dict[str, list[bool]], *, task: str = "classification") -> Predictions:
    """People who were answered rightly or wrongly, two classes."""
    person = [who for who, own in right.items() for _ in own]
    truth = np.zeros(len(person), np.int64)
    said = np.array([[1.0, 0.0] if ok else [0.0, 1.0] for own in right.values() for ok in own])
    item = np.array([f"{who} {i}" for who, own in right.items() for i in range(len(own))])
    return Predictions(task, ("no", "yes"), np.array(person), item, truth, said)  # type: ignore[arg-type]


def test_people_are_compared_with_themselves_and_averaged_over_seeds() -> None:
    bound = "student without privileged (voice)"
    good = {f"p{i}": [True, True] for i in range(12)}
    fair = {f"p{i}": [True, i % 2 == 0] for i in range(12)}
    poor = {f"p{i}": [True, False] for i in range(12)}
    results = {
        bound: [_people(poor)] * 6,
        "KD (voice)": [_people(fair), _people(poor)] * 3,
        "PKDOT balanced (voice)": [_people(good)] * 6,
    }

    (table,) = adjusted([make_table("toy", results, ["2 folds by person"])])

    assert table.rows["KD (voice)"].headline == pytest.approx(0.625)
    assert table.rows["PKDOT balanced (voice)"].less_reference == compare_scores(
        {f"p{i}": 1.0 for i in range(12)}, {f"p{i}": 0.5 for i in range(12)}, tested=False
    )
    assert table.rows[bound].less_reference is None
    assert [(one.a, one.b) for one in table.fixed] == [
        ("PKDOT balanced (voice)", bound),
        ("PKDOT balanced (voice)", "KD (voice)"),
    ]
    assert table.fixed[0].found.p_value == pytest.approx(2 / 2**12)
    assert table.fixed[0].adjusted_p == pytest.approx(2 * 2 / 2**12)  # the smallest of two
    text = markdown(table)
    assert "2 folds by person" in text
    assert "| PKDOT balanced (voice) | 1.000 ± 0.000 |" in text
    assert "+0.500 [+0.500, +0.500]" in text
    assert r"PKDOT balanced (voice) & 1.000 $\pm$ 0.000" in latex(table)
    assert r"balanced\_accuracy" in latex(table)
