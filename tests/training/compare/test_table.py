"""What a table says, and what it must not say."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.compare.page import write_page
from training.compare.plots import draw_ablations, draw_bars, draw_calibration, draw_matrices
from training.compare.table import Table, adjusted, make_table
from training.compare.table_text import latex, markdown, write_csv
from training.scores.predictions import Predictions
from training.scores.statistics import Interval

BOUND, KD, PKDOT = "student without privileged (voice)", "KD (voice)", "PKDOT balanced (voice)"
ORACLE = "oracle (voice)"


def answers(
    given: Mapping[str, Sequence[int]], truth: Sequence[int], *, task: str = "classification", labels: int = 2
) -> Predictions:
    """Each person's sure answers, -1 for none, to the same clips."""
    person = [who for who, own in given.items() for _ in own]
    said = np.array([np.eye(labels)[k] if k >= 0 else [np.nan] * labels for own in given.values() for k in own])
    item = np.array([f"{who} {i}" for who, own in given.items() for i in range(len(own))])
    names = tuple(f"L{k}" for k in range(labels))
    return Predictions(task, names, np.array(person), item, np.array([*truth] * len(given)), said)  # type: ignore[arg-type]


def people(*given: int, of: int = 12) -> dict[str, tuple[int, ...]]:
    """So many people who all answer the same."""
    return {f"p{i:02d}": given for i in range(of)}


def texts(table: Table, folder: Path) -> dict[str, str]:
    """The table in each of its forms."""
    write_csv(table, folder / "table.csv")
    write_page(table, folder, folder / "report.html")
    return {
        "markdown": markdown(table),
        "latex": latex(table),
        "page": (folder / "report.html").read_text(),
        "csv": (folder / "table.csv").read_text(),
    }


def lines_of(text: str, **where: str) -> list[dict[str, str]]:
    """The CSV's lines in which columns hold these values."""
    return [line for line in csv.DictReader(text.splitlines()) if where.items() <= line.items()]


def compared(seeds: int, *, count: int = 12) -> Table:
    """PKDOT right in both clips of everybody, bound B in one of them, over so many seeds."""
    good, poor = answers(people(0, 1, of=count), [0, 1]), answers(people(0, 0, of=count), [0, 1])
    return adjusted([make_table("toy", {BOUND: [poor] * seeds, PKDOT: [good] * seeds}, ["2 folds"])])[0]


@pytest.mark.parametrize("seeds", [1, 4])
def test_fewer_than_five_seeds_get_an_interval_and_no_test(seeds: int, tmp_path: Path) -> None:
    table = compared(seeds)

    sentence = f"{PKDOT} less {BOUND}: +0.500 [+0.500, +0.500] over 12 people; fewer than 5 seeds: no test"
    (one,) = table.fixed
    assert (one.found.p_value, one.found.wilcoxon_p, one.adjusted_p) == (None, None, None)
    said = texts(table, tmp_path)
    assert [sentence in said[form] for form in ("markdown", "latex", "page")] == [True] * 3
    assert ["p = " in text for text in said.values()] == [False] * 4
    (line,) = lines_of(said["csv"], row=PKDOT, score=f"less {BOUND}")
    assert (line["mean"], line["low"], line["high"], line["p_value"], line["p_holm"]) == ("0.5", "0.5", "0.5", "", "")


def test_five_seeds_of_ten_people_are_tested(tmp_path: Path) -> None:
    said = texts(compared(5, count=10), tmp_path)

    # all differ by the same: two of the 2^10 signs are as extreme
    assert "over 10 people; p = 0.002, 0.002 after Holm (Wilcoxon 0.002)" in said["markdown"]
    (line,) = lines_of(said["csv"], row=PKDOT, score=f"less {BOUND}")
    assert (float(line["p_value"]), float(line["p_holm"])) == (2 / 2**10, 2 / 2**10)


def test_no_probability_is_told_as_0(tmp_path: Path) -> None:
    said = texts(compared(5, count=14), tmp_path)  # two of the 2^14 signs

    assert "over 14 people; p < 0.001, < 0.001 after Holm (Wilcoxon < 0.001)" in said["markdown"]


def test_five_seeds_of_nine_people_are_not(tmp_path: Path) -> None:
    said = texts(compared(5, count=9), tmp_path)

    assert "over 9 people; too few people for a test" in said["markdown"]
    (line,) = lines_of(said["csv"], row=PKDOT, score=f"less {BOUND}")
    assert (line["p_value"], line["p_holm"]) == ("", "")


def test_a_difference_that_was_not_fixed_in_advance_is_not_tested_over_any_number_of_seeds() -> None:
    less = compared(5).rows[PKDOT].less_reference

    assert less is not None
    assert (less.p_value, less.wilcoxon_p, less.interval) == (None, None, Interval(0.5, 0.5))


def test_pkdot_stands_beside_the_controls_that_it_must_beat_untested_and_outside_holms_family(tmp_path: Path) -> None:
    given = {
        BOUND: people(0, 0),
        PKDOT: people(0, 1),
        "PKDOT from labels (voice)": people(0, 1),
        "PKDOT from prevalent (voice)": {**people(0, 1), "p00": (0, 0), "p01": (0, 0), "p02": (0, 0)},
    }
    results = {row: [answers(own, [0, 1])] * 5 for row, own in given.items()}

    (table,) = adjusted([make_table("toy", results, [])])

    assert [one.b for one in table.controls] == ["PKDOT from labels (voice)", "PKDOT from prevalent (voice)"]
    assert [one.found.difference for one in table.controls] == [0.0, 3 * 0.5 / 12]
    assert [(one.found.p_value, one.found.wilcoxon_p) for one in table.controls] == [(None, None)] * 2
    assert [one.adjusted_p for one in table.fixed] == [2 / 2**12]
    said = texts(table, tmp_path)
    sentence = (
        f"{PKDOT} less PKDOT from prevalent (voice): +0.125 [+0.000, +0.250] over 12 people; a control, not tested"
    )
    assert [sentence in said[form] for form in ("markdown", "latex", "page")] == [True] * 3
    (line,) = lines_of(said["csv"], row=PKDOT, score="less PKDOT from prevalent (voice)")
    assert (line["mean"], line["low"], line["high"], line["p_value"]) == ("0.125", "0.0", "0.25", "")


def test_every_score_has_its_interval_in_the_csv(tmp_path: Path) -> None:
    # a is right in both clips, b in one: over two seeds alike
    said = answers({"a": (0, 1), "b": (0, 0)}, [0, 1])

    text = texts(make_table("toy", {KD: [said, said]}, []), tmp_path)["csv"]

    intervals = {line["score"]: (line["low"], line["high"]) for line in lines_of(text, row=KD)}
    assert intervals["accuracy"] == intervals["balanced_accuracy"] == intervals["headline"] == ("0.5", "1.0")
    assert [float(x) for x in intervals["macro_f1"]] == pytest.approx([1 / 3, 1.0])
    assert intervals["people"] == intervals["clips"] == intervals["unanswered"] == ("", "")
    assert [line["mean"] for line in lines_of(text, score="people")] == ["2.0"]


def test_one_seed_has_no_deviation_over_seeds(tmp_path: Path) -> None:
    good, poor = answers(people(0, 1), [0, 1]), answers(people(0, 0), [0, 1])

    one = texts(make_table("toy", {KD: [good]}, []), tmp_path)
    two = texts(make_table("toy", {KD: [good, poor]}, []), tmp_path)

    assert f"| {KD} | 1.000 | 1.000 | 1.000 | 1.000 [1.000, 1.000] | – |" in one["markdown"]
    assert f"{KD} & 1.000 & 1.000 & 1.000 & 1.000 [1.000, 1.000] & – " in one["latex"]
    assert f"<td>{KD}</td><td>1.000</td>" in one["page"]
    assert f"| {KD} | 0.750 ± 0.354 |" in two["markdown"]
    none, some = (lines_of(form["csv"], score="accuracy")[0]["sd_over_seeds"] for form in (one, two))
    assert (none, float(some)) == ("", pytest.approx(0.5 / 2**0.5))


def test_the_interval_of_a_pooled_ccc_is_the_headlines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 2))
    person, item = np.repeat([f"p{i}" for i in range(6)], 10), np.array([f"{i:02d}" for i in range(60)])
    runs = [
        Predictions("valence-arousal", ("valence", "arousal"), person, item, truth, truth + rng.normal(size=(60, 2)))
        for _ in range(2)
    ]

    text = texts(make_table("toy", {KD: runs}, []), tmp_path)["csv"]

    lines = {line["score"]: [float(line[name] or "nan") for name in ("mean", "low", "high")] for line in lines_of(text)}
    assert lines["ccc_mean"] == pytest.approx(lines["headline"])
    assert all(low < mean < high for mean, low, high in (lines["rmse_valence"], lines["pcc_arousal"]))


def test_what_rounds_to_nothing_is_not_shown_as_less_than_nothing() -> None:
    truth = np.random.default_rng(0).normal(size=(60, 2))
    person, item = np.repeat([f"p{i}" for i in range(6)], 10), np.array([f"{i:02d}" for i in range(60)])
    constant = Predictions("valence-arousal", ("valence", "arousal"), person, item, truth, truth * -1e-6)

    row = next(
        line for line in markdown(make_table("toy", {"constant": [constant]}, [])).splitlines() if "| constant" in line
    )
    assert row == "| constant | 0.000 | 0.000 | 0.000 | 0.000 [0.000, 0.000] | – |"


def partly_answered() -> Table:
    """The oracle has no answer to each person's second clip; where it has one it is right."""
    rows = {
        "teacher (face+voice)": answers(people(0, 1), [0, 1]),
        "constant": answers(people(0, 0), [0, 1]),
        BOUND: answers(people(1, 1), [0, 1]),
        ORACLE: answers(people(0, -1), [0, 1]),
    }
    return make_table("toy", {row: [said] for row, said in rows.items()}, [])


def test_where_a_row_has_no_answer_all_rows_are_shown_on_the_items_that_every_row_answered(tmp_path: Path) -> None:
    table = partly_answered()

    assert table.rows[ORACLE].headline == 0.5
    assert table.common is not None
    assert (table.common.items, table.common.of) == (12, 24)
    assert {row: one.headline for row, one in table.common.rows.items()} == {
        "teacher (face+voice)": 1.0, "constant": 1.0, BOUND: 0.0, ORACLE: 1.0,
    }  # fmt: skip
    title, said = "On the 12 of 24 items that every row answered", texts(table, tmp_path)
    above, below = said["markdown"].split(f"\n\n{title}:\n\n")
    head = "| row | accuracy | balanced_accuracy | macro_f1 | by person | less bound B |"
    assert (head in above, below.splitlines()[0]) == (True, head)
    assert f"| {ORACLE} | 1.000 | 1.000 | 1.000 | 1.000 [1.000, 1.000] | +1.000 " in below
    assert f"\\midrule\n\\multicolumn{{6}}{{l}}{{{title}}} \\\\\n\\midrule\nteacher" in said["latex"]
    assert f"<h2>{title}</h2><table>" in said["page"].replace("\n", "")
    assert [line["mean"] for line in lines_of(said["csv"], row=ORACLE, score="headline")] == ["0.5", "1.0"]
    (common,) = lines_of(said["csv"], row=ORACLE, score="headline", items="answered by every row")
    assert common["mean"] == "1.0"


def test_where_everything_is_answered_there_is_one_block(tmp_path: Path) -> None:
    table = compared(2)

    assert table.common is None
    assert [text.count("every row") for text in texts(table, tmp_path).values()] == [0] * 4


def test_where_no_item_is_answered_by_all_there_is_one_block() -> None:
    rows = {BOUND: answers(people(0, 1), [0, 1]), ORACLE: answers(people(-1, -1), [0, 1])}

    assert make_table("toy", {row: [said] for row, said in rows.items()}, []).common is None


def test_rows_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="rows are compared on the same items"):
        make_table("toy", {BOUND: [answers(people(0), [0])], KD: [answers(people(0, 1), [0, 1])]}, [])


def test_names_that_are_commands_elsewhere_stand_as_they_are_in_every_form(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    person, item = np.repeat(["a", "b"], 10), np.array([f"{i:02d}" for i in range(20)])
    names = ("R&D #1", "v|x", r"\a_{b}^~", "50% <$>")
    truth, said = rng.normal(size=(2, 20, len(names)))
    runs = [Predictions("regression", names, person, item, truth, said)]

    forms = texts(make_table("a_b", {"x|y & #2": runs}, ["50% of {labels}."]), tmp_path)

    latex_lines = forms["latex"].splitlines()
    assert latex_lines[2] == (
        r"row & ccc\_R\&D \#1 & ccc\_v\textbar{}x & ccc\_\textbackslash{}a\_\{b\}\textasciicircum{}\textasciitilde{} & "
        r"ccc\_50\% \textless{}\$\textgreater{} & ccc\_mean & pooled & less bound B \\"
    )
    assert latex_lines[4].startswith(r"x\textbar{}y \& \#2 & ")
    assert r"{\footnotesize a\_b: 1 seeds, 2 people. 50\% of \{labels\}.} \\" in latex_lines[6]
    markdown_lines = forms["markdown"].splitlines()
    assert markdown_lines[2] == (
        r"| row | ccc_R&D #1 | ccc_v\|x | ccc_\\a_{b}^~ | ccc_50% <$> | ccc_mean | pooled | less bound B |"
    )
    assert markdown_lines[3] == "| --- " * 8 + "|"
    assert markdown_lines[4].startswith(r"| x\|y & #2 | ")
    assert (
        r"<tr><th>row</th><th>ccc_R&amp;D #1</th><th>ccc_v|x</th><th>ccc_\a_{b}^~</th><th>ccc_50% &lt;$&gt;</th>"
    ) in forms["page"]
    assert "<tr><td>x|y &amp; #2</td>" in forms["page"]
    assert lines_of(forms["csv"], row="x|y & #2", score="ccc_v|x") != []


@pytest.mark.parametrize(("truth", "there"), [([0, 0, 0, 1, 1, 2], False), ([0, 0, 0, 0, 1, 2], True)])
def test_balanced_accuracy_stands_beside_that_of_pain_where_a_level_is_frequent(
    truth: list[int], there: bool, tmp_path: Path
) -> None:
    # an equal share of six clips is two: three is 1.5 times that and not more
    said = answers(people(*[0] * 6), truth, task="pain", labels=3)

    forms = texts(make_table("toy", {KD: [said]}, []), tmp_path)

    assert ("| accuracy | balanced_accuracy | accuracy_lowest_highest |" in forms["markdown"]) is there
    assert (r"accuracy & balanced\_accuracy &" in forms["latex"]) is there
    assert ("<th>accuracy</th><th>balanced_accuracy</th>" in forms["page"]) is there
    (line,) = lines_of(forms["csv"], score="balanced_accuracy")
    assert float(line["mean"]) == pytest.approx(1 / 3)


def test_the_constant_row_has_no_lower_bound_of_its_own_student() -> None:
    table = partly_answered()

    assert table.rows["constant"].less_reference is None
    assert "| constant | 0.500 | 0.500 | 0.333 | 0.500 [0.500, 0.500] | – |" in markdown(table)


def test_every_picture_says_how_its_people_were_dealt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = "NOT SUBJECT-INDEPENDENT: 5 folds by clip; 12 people, split seed 0; folds tested: 5."
    said = answers(people(0, 1), [0, 1])
    results = {row: [said] for row in (KD, "ablation k=4 (voice)", "ablation k=8 (voice)")}
    named = (
        "Standardised by person over all of each person's recordings: eda.",
        "Facial EMG is used, from electrodes on the face: emg_corrugator.",
        "20% of the labels of training and selection people, class: in seed 0, fold 0 8 of 40 windows keep theirs.",
        "3 of 40 recordings have windows of several classes, each of which is scored by itself.",
        "The faces of 2 of 9 clips were cropped by the corpus's owners; a service crops them by the bundle's own nets.",
    )
    table = make_table("toy", results, [stamp, "A note.", *named])
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: drawn.update({Path(file).name: self}))

    draw_bars(table, tmp_path / "rows.png")
    draw_ablations(table, tmp_path / "ablations.png")
    draw_calibration(table, results, tmp_path / "calibration.png")
    draw_matrices(table, [np.eye(4), np.eye(4), np.eye(4), np.arange(4)], KD, tmp_path / "matrices.png")

    assert {name: figure.get_suptitle() for name, figure in drawn.items()} == dict.fromkeys(
        ("rows.png", "ablations.png", "calibration.png", "matrices.png"), " ".join((f"toy; {stamp}", *named))
    )
    assert drawn["matrices.png"].get_supxlabel() == f"{KD}, one batch"


def test_ablations_have_ticks_where_something_was_tried_and_the_score_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = answers(people(0, 1), [0, 1])
    rows = ("ablation k=30 (voice)", "ablation k=4 (voice)", "ablation k=8, normalised (voice)")
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))

    assert draw_ablations(make_table("toy", {row: [said] for row in rows}, []), tmp_path / "ablations.png")

    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "8", "30"]
    assert drawn[0].get_supylabel() == "mean accuracy of people"


def test_calibration_is_drawn_without_and_with_each_rows_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = answers(people(0, 0), [0, 1])  # of 24 clips, half of them right
    half, third = np.array([[0.5, 0.5]] * 24), np.array([[0.75, 0.25]] * 24)
    rows = {
        KD: [replace(sure, calibrated=half), replace(sure, calibrated=third)],
        PKDOT: [replace(sure, calibrated=half), sure],
        ORACLE: [replace(answers(people(-1, -1), [0, 1]), calibrated=np.full((24, 2), np.nan))],
    }
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))

    assert draw_calibration(make_table("toy", {KD: rows[KD]}, []), rows, tmp_path / "calibration.png")

    without, with_it = (
        {str(line.get_label()): np.stack(line.get_data()).tolist() for line in axes.lines[:3]} for axes in drawn[0].axes
    )
    assert without == {
        f"{KD}, ECE 0.500": [[1.0], [0.5]], f"{PKDOT}, ECE 0.500": [[1.0], [0.5]], f"{ORACLE}: no answer": [[], []],
    }  # fmt: skip
    assert with_it == {
        f"{KD}, ECE 0.125": [[0.5, 0.75], [0.5, 0.5]],  # over seeds the mean of 0 and 0.25
        f"{PKDOT}: no temperature was kept": [[], []],
        f"{ORACLE}: no answer": [[], []],
    }
