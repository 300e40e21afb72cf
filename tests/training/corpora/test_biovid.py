import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.spec import InputSpec, SignalSpec
from pkdot import main
from training.corpora.biovid import check_biovid, read_biovid, which_part
from training.corpora.clip import Clip, CorpusError
from training.data.cache import prepare_clip, prepared_windows

WOMAN, MAN = "071309_w_21", "120614_m_61"
Writer = Callable[..., Path]
EDA = InputSpec(window_s=5.5, hop_s=5.5, signals={"eda": SignalSpec(channels=("gsr",), rate_hz=16)})


def test_a_line_of_samples_csv_becomes_a_clip(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA3", f"{WOMAN}-PA3-017"), (MAN, "BL1", f"{MAN}-BL1-081")])

    corpus = read_biovid(root)

    first, second = corpus.clips
    assert (first.id, first.subject, first.level) == ("071309_w_21-PA3-017", "071309_w_21", 3)
    assert (second.level, second.labels, second.split) == (0, None, None)
    assert first.video == root / "video" / WOMAN / "071309_w_21-PA3-017.mp4"
    assert first.signals == root / "biosignals_filtered" / WOMAN / "071309_w_21-PA3-017_bio.csv"
    assert (first.groups, second.groups) == ({"sex": "female", "age": "18-35"}, {"sex": "male", "age": "51-65"})
    assert (corpus.name, corpus.task, corpus.levels) == ("biovid", "pain", ("BL1", "PA1", "PA2", "PA3", "PA4"))
    assert corpus.signal_columns == ("gsr", "ecg", "emg_trapezius")


def test_a_corpus_without_the_marker_is_real_and_research_only(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA3", "a")])

    assert not read_biovid(root).synthetic
    assert "research only" in read_biovid(root).licence

    (root / "SYNTHETIC.md").write_text("drawn")
    assert read_biovid(root).synthetic
    assert "CC0" in read_biovid(root).licence


def test_facial_emg_is_listed_where_the_part_has_it(biovid: Writer) -> None:
    biosignals = (
        "time\tgsr\tecg\temg_trapezius\temg_corrugator\temg_zygomaticus\n0\t1\t1\t1\t1\t1\n1953\t1\t1\t1\t1\t1\n"
    )

    corpus = read_biovid(biovid([(WOMAN, "PA1", "a")], biosignals=biosignals))

    assert corpus.signal_columns == ("gsr", "ecg", "emg_trapezius", "emg_corrugator", "emg_zygomaticus")


def test_samples_csv_may_lie_in_starting_point(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a")])
    (root / "starting_point").mkdir()
    (root / "samples.csv").rename(root / "starting_point" / "samples.csv")

    assert [clip.id for clip in read_biovid(root).clips] == ["a"]


def test_a_subject_of_another_form_is_in_unknown_groups(biovid: Writer) -> None:
    clip = read_biovid(biovid([("S12", "PA1", "a")])).clips[0]

    assert clip.groups == {"sex": "unknown", "age": "unknown"}


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("video/071309_w_21/a.mp4", "video/071309_w_21/a.mp4 is missing: expected the clip's video"),
        (
            "biosignals_filtered/071309_w_21/a_bio.csv",
            "biosignals_filtered/071309_w_21/a_bio.csv is missing: expected the clip's biosignals",
        ),
        ("samples.csv", "has no samples.csv"),
    ],
)
def test_a_missing_file_is_named(biovid: Writer, lost: str, sentence: str) -> None:
    root = biovid([(WOMAN, "PA1", "a")])
    (root / lost).unlink()

    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_biovid(root)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([(WOMAN, "PA5", "a")], "gives a the class 'PA5': expected one of BL1, PA1, PA2, PA3, PA4"),
        ([(WOMAN, "PA1", "..")], "holds the name '..'"),
        (
            [(WOMAN, "PA1", f"{WOMAN}-PA1-001"), (WOMAN, "PA2", f"{WOMAN}-PA3-002")],
            f"samples.csv gives {WOMAN}-PA3-002 the class PA2: expected PA3, as its name says.",
        ),
        ([(WOMAN, "PA1", "a"), (WOMAN, "PA2", "a")], "names a more than once"),
        ([], "has no line below its header"),
    ],
)
def test_a_bad_line_is_refused(biovid: Writer, rows: list[tuple[str, str, str]], sentence: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_biovid(biovid(rows))


def test_a_missing_column_is_named(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a")], header="subject_id\tsubject_name\tclass_id\tclass\tsample_name")

    with pytest.raises(CorpusError, match=r"samples\.csv lacks the column class_name"):
        read_biovid(root)


def test_the_check_lists_every_problem_and_counts_the_clips(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a"), (WOMAN, "PA9", "b"), (MAN, "BL1", "c"), (MAN, "BL1", "d")])
    (root / "video" / WOMAN / "a.mp4").unlink()
    (root / "biosignals_filtered" / WOMAN / "a_bio.csv").write_text("time\tgsr\n0\t1\n1953\t2\n")
    (root / "biosignals_filtered" / MAN / "c_bio.csv").write_text("time\tgsr\tecg\n0\t1\tnan\n1953\t1\t2\n")

    lines = check_biovid(root)

    problems = [line for line in lines if line.startswith("problem: ")]
    assert len(problems) == 5
    assert sum("the content is not one of the accepted formats" in line for line in problems) == 2
    assert any("a.mp4 is missing" in line for line in problems)
    assert any("'PA9'" in line for line in problems)
    assert any("c_bio.csv holds no finite number in column ecg, line 2" in line for line in problems)
    assert "3 clips of 2 subjects" in lines
    assert "class BL1: 2 clips" in lines
    assert {"sex female: 1 subjects", "sex male: 1 subjects"} <= set(lines)
    assert f"subject {WOMAN}: 1 clips" in lines


def test_the_check_names_a_person_under_two_names(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a"), (f"{WOMAN}x", "BL1", "b"), (WOMAN, "PA2", "c"), (MAN, "BL1", "d")])
    said = f"samples.csv gives subject_id 1 the names {WOMAN} and {WOMAN}x: expected one for each person."
    assert not [line for line in check_biovid(root) if said in line]

    table = root / "samples.csv"
    table.write_text(table.read_text().replace("\n2\t", "\n1\t"))

    assert check_biovid(root)[0] == f"problem: {said}"


def test_biosignals_in_another_encoding_are_named(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a"), (MAN, "BL1", "b")])
    (root / "biosignals_filtered" / WOMAN / "a_bio.csv").write_bytes("time\tgsr\n0\t1\n1953\t2\n".encode("utf-16"))
    sentence = "a_bio.csv is not text in UTF-8: expected columns separated by tabs; save it as UTF-8."

    lines = check_biovid(root)

    assert f"problem: {sentence}" in lines
    assert any(line.startswith("like part A (no facial EMG): gsr, ecg, emg_trapezius; 2 subjects") for line in lines)
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_biovid(root)


def test_a_list_of_samples_that_is_no_table_is_one_sentence(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a")])
    with (root / "samples.csv").open("a") as file:
        file.write(f'1\t"{"x" * 200_000}\n')

    with pytest.raises(
        CorpusError, match=r"samples\.csv is no table \(field larger than .*\): expected short lines, sep"
    ):
        read_biovid(root)


def test_the_check_of_a_whole_corpus_finds_no_problem(drawn_pain: Path) -> None:
    lines = check_biovid(drawn_pain)

    assert lines[0] == "15 clips of 3 subjects"
    assert lines[2] == "class BL1: 3 clips"


def test_the_check_names_biosignals_that_are_not_like_the_others(drawn_pain: Path, tmp_path: Path) -> None:
    root = tmp_path / "pain"
    shutil.copytree(drawn_pain, root)
    first, short, other = sorted(root.rglob("*_bio.csv"))[:3]
    short.write_text("".join(short.read_text().splitlines(keepends=True)[:2049]))  # 4 s at 512 Hz
    other.write_text(other.read_text().replace("gsr", "GSR", 1))

    problems = [line for line in check_biovid(root) if line.startswith("problem: ")]

    assert problems == [
        f"problem: {short.relative_to(root).as_posix()} lasts 4.00 s and its video 5.52 s: expected a difference of at "
        "most 0.5 s.",
        f"problem: {other.name} has no column gsr: it has time, GSR, ecg, emg_trapezius, separated by tabs.",
    ]
    assert first.name not in str(problems)


@pytest.mark.parametrize(
    ("samples", "lasts"), [(400, "0.78"), (2560, "5.00"), (2580, None), (2816, None), (4096, "8.00")]
)
def test_training_refuses_biosignals_of_another_length_than_the_video_as_the_check_does(
    drawn_pain: Path, tmp_path: Path, samples: int, lasts: str | None
) -> None:
    root = tmp_path / "pain"
    shutil.copytree(drawn_pain, root)
    clip = read_biovid(root).clips[0]
    assert clip.signals is not None
    lines = [f"{i / 512:.6f}\t{i % 7}" for i in range(samples)]
    clip.signals.write_text("\n".join(["time\tgsr", *lines]))
    said = f"{clip.signals.name} lasts {lasts} s and its video 5.52 s: expected a difference of at most 0.5 s."

    assert any(said in line for line in check_biovid(root)) == (lasts is not None)
    if lasts is None:
        assert prepare_clip(clip, EDA, None)["eda_s"] == samples / 512
        return
    with pytest.raises(CorpusError) as raised:
        prepare_clip(clip, EDA, None)
    assert str(raised.value) == said


def test_a_run_on_a_file_of_biosignals_that_was_cut_ends_with_one_sentence(
    drawn_pain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, recipe = tmp_path / "pain", tmp_path / "own.yaml"
    shutil.copytree(drawn_pain, root)
    cut = max(root.rglob("*_bio.csv"))
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:401]))
    config = {
        "name": "own",
        "corpus": {"kind": "biovid", "root": str(root)},
        "inputs": {**EDA.model_dump(), "voice": {}},
        "modalities": ["voice", "eda"],
        "students": [["voice"]],
    }
    recipe.write_text(json.dumps(config))
    monkeypatch.setenv("PKDOT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["pkdot", "train", str(recipe), "--out", str(tmp_path / "run")])

    with pytest.raises(SystemExit) as done:
        main()

    assert done.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"pkdot: {cut.name} lasts 0.78 s and its video 5.52 s: expected a difference of at most 0.5 s."
    assert not (tmp_path / "run").exists()


def test_windows_of_signals_whose_length_nobody_looked_at_are_made_again(drawn_pain: Path, tmp_path: Path) -> None:
    clips = read_biovid(drawn_pain).clips[:1]

    def prepare() -> Path:
        return prepared_windows(clips, EDA, None, workers=1, folder=tmp_path, label="test")[0]

    file = prepare()
    with np.load(file) as arrays:
        whole = dict(arrays)
    np.savez(file, **{name: 0 * values for name, values in whole.items() if name != "eda_s"})

    assert prepare() == file
    with np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["eda"], whole["eda"])
        assert arrays["eda_s"] == 5.5
    written = file.stat().st_mtime_ns
    assert prepare().stat().st_mtime_ns == written


def test_the_check_names_files_that_are_the_same_under_two_subjects(biovid: Writer) -> None:
    root = biovid([(WOMAN, "PA1", "a"), (MAN, "BL1", "b")])
    copy = (root / "video" / WOMAN / "a.mp4").read_bytes()
    (root / "video" / MAN / "b.mp4").write_bytes(copy)

    lines = check_biovid(root)

    assert (
        f"problem: video/{WOMAN}/a.mp4 and video/{MAN}/b.mp4 are the same file: expected a recording of its own for "
        "each clip."
    ) in lines


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("gsr ecg emg_trapezius", "like part A (no facial EMG): gsr, ecg, emg_trapezius; 2 subjects, neither"),
        (
            "gsr ecg emg_trapezius emg_corrugator emg_zygomaticus",
            "like part B (facial EMG): gsr, ecg, emg_trapezius, emg_corrugator, emg_zygomaticus; 2 subjects, neither",
        ),
    ],
)
def test_the_check_says_which_part_it_looks_like(biovid: Writer, columns: str, said: str) -> None:
    names = columns.split()
    table = "\n".join(["\t".join(["time", *names]), *("\t".join([str(t), *["1"] * len(names)]) for t in (0, 1953))])

    lines = check_biovid(biovid([(WOMAN, "PA1", "a"), (MAN, "BL1", "b")], biosignals=table))

    assert any(line.startswith(said) for line in lines)


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        (87, "87 subjects, all of part A"),
        (67, "67 subjects, part A without the 20"),
        (12, "12 subjects, neither the 87"),
    ],
)
def test_the_number_of_subjects_is_named(subjects: int, said: str) -> None:
    clips = [Clip(f"c{i}", f"s{i}", None) for i in range(subjects)]

    assert said in which_part(clips)
