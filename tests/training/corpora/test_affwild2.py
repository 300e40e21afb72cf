import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.corpora.affwild2 import align_labels, base_video, check_affwild2, read_affwild2
from training.corpora.clip import CorpusError

LABELS = "valence,arousal\n0.5,-0.25\n-5,-5\n1,-1\n"
Writer = Callable[..., Path]


def test_an_annotation_file_becomes_a_clip(affwild2: Writer) -> None:
    root = affwild2(
        {"Train_Set/video1": LABELS, "Validation_Set/7-60-640x480": LABELS}, ["batch1/video1.mp4", "7-60-640x480.avi"]
    )

    corpus = read_affwild2(root)

    first, second = corpus.clips
    assert (first.id, first.subject, first.split) == ("video1", "video1", "train")
    assert (second.id, second.split) == ("7-60-640x480", "test")
    assert first.video == root / "videos" / "batch1" / "video1.mp4"
    assert second.video == root / "videos" / "7-60-640x480.avi"
    assert first.side is None
    assert first.groups == {"sex": "unknown", "age": "unknown"}
    assert (corpus.name, corpus.task, corpus.levels, corpus.synthetic) == ("affwild2", "valence-arousal", (), False)
    assert "research only" in corpus.licence


def test_a_frame_counts_when_both_labels_lie_in_minus_one_to_one(affwild2: Writer) -> None:
    text = "valence,arousal\n0.5,-0.25\n-5,-5\n1,-1\n0.1,-5\n1.01,0\n"

    labels = read_affwild2(affwild2({"Train_Set/v": text}, ["v.mp4"])).clips[0].labels

    nan = np.nan
    assert labels is not None
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, np.float32([[0.5, -0.25], [nan, nan], [1, -1], [nan, nan], [nan, nan]]))


def test_left_and_right_share_a_video_and_a_subject(affwild2: Writer) -> None:
    root = affwild2({"Train_Set/video5_left": LABELS, "Train_Set/video5_right": LABELS}, ["video5.mp4"])

    left, right = read_affwild2(root).clips

    assert left.video == right.video == root / "videos" / "video5.mp4"
    assert left.subject == right.subject == "video5"
    assert left.id != right.id
    assert (left.side, right.side) == ("left", "right")


@pytest.mark.parametrize(
    ("stem", "base"),
    [
        ("video86_2", "video86"),
        ("video5_left", "video5"),
        ("122-60-1920x1080-3", "122-60-1920x1080"),
        ("135-24-1920x1080_left", "135-24-1920x1080"),
        ("118-30-640x480", "118-30-640x480"),
        ("118", "118"),
        ("my_clip_right", "my_clip"),
    ],
)
def test_parts_and_sides_belong_to_one_base_video(stem: str, base: str) -> None:
    assert base_video(stem) == base


@pytest.mark.parametrize(
    ("annotations", "videos", "sentence"),
    [
        (
            {"Train_Set/v": LABELS},
            [],
            "Train_Set/v.txt has no video: expected v.mp4 or .avi under videos/, or the folder cropped_aligned/v/.",
        ),
        ({"Train_Set/v": "0.1,0.2\n"}, ["v.mp4"], "v.txt begins with '0.1,0.2': expected the header valence,arousal"),
        (
            {"Train_Set/v": "valence,arousal\n0.1,0.2\nx,1\n"},
            ["v.mp4"],
            "v.txt, line 3, is 'x,1': expected two numbers",
        ),
        (
            {"Train_Set/v": "valence,arousal\n0,0\nnan,0\n"},
            ["v.mp4"],
            "v.txt, line 3, is 'nan,0': expected -5 where there is no label",
        ),
        ({"Train_Set/v": "valence,arousal\n0.1\n"}, ["v.mp4"], "v.txt, line 2, is '0.1': expected two numbers"),
        ({"Train_Set/v": "valence,arousal\n"}, ["v.mp4"], "v.txt has no line below its header"),
        (
            {"Train_Set/v": LABELS, "Validation_Set/v": LABELS},
            ["v.mp4"],
            "v.txt lies in Train_Set and in Validation_Set",
        ),
        ({"Train_Set/v": LABELS}, ["v.mp4", "more/v.avi"], "share a base name"),
        ({}, ["v.mp4"], "has no annotations/VA_Estimation_Challenge/Train_Set/*.txt"),
    ],
)
def test_what_does_not_fit_is_named(
    affwild2: Writer, annotations: dict[str, str], videos: list[str], sentence: str
) -> None:
    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_affwild2(affwild2(annotations, videos))


def test_an_annotation_in_another_encoding_is_named(affwild2: Writer) -> None:
    root = affwild2({"Train_Set/v": LABELS, "Train_Set/w": LABELS}, ["v.mp4", "w.mp4"])
    path = root / "annotations" / "VA_Estimation_Challenge" / "Train_Set" / "v.txt"
    path.write_bytes(LABELS.encode("utf-16"))
    sentence = (
        "annotations/VA_Estimation_Challenge/Train_Set/v.txt is not UTF-8: expected the header valence,arousal; save "
        "it as UTF-8 text."
    )

    with pytest.raises(CorpusError, match=re.escape(sentence)):
        read_affwild2(root)
    assert check_affwild2(root)[0] == f"problem: {sentence}"


@pytest.mark.parametrize(
    ("frames", "said"), [(12, "the last 2 frames have no label"), (5, "the last 5 lines were dropped")]
)
def test_up_to_five_lines_of_difference_are_trimmed_and_said(frames: int, said: str) -> None:
    labels = np.linspace(-1, 1, 20, dtype=np.float32).reshape(10, 2)

    aligned, note = align_labels(labels, frames, "v")

    assert aligned.shape == (frames, 2)
    np.testing.assert_array_equal(aligned[:10], labels[:frames])
    assert np.isnan(aligned[10:]).all()
    assert note is not None
    assert note.startswith(f"v: 10 lines of labels for {frames} frames")
    assert said in note


def test_equal_lengths_are_left_alone() -> None:
    labels = np.zeros((10, 2), np.float32)

    aligned, note = align_labels(labels, 10, "v")

    assert aligned is labels
    assert note is None


@pytest.mark.parametrize("frames", [4, 16])
def test_more_than_five_lines_of_difference_are_an_error(frames: int) -> None:
    with pytest.raises(
        CorpusError, match=f"v: 10 lines of labels for {frames} frames: expected a difference of at most 5"
    ):
        align_labels(np.zeros((10, 2), np.float32), frames, "v")


def test_the_check_compares_lines_with_frames(drawn_affect: Path, tmp_path: Path) -> None:
    videos, annotations = tmp_path / "videos", tmp_path / "annotations" / "VA_Estimation_Challenge" / "Train_Set"
    videos.mkdir()
    annotations.mkdir(parents=True)
    recording = (drawn_affect / "videos" / "1-25-128x128.mp4").read_bytes()  # 150 frames
    for number, (name, lines) in enumerate((("exact", 150), ("longer", 153), ("other", 100))):
        (videos / f"{name}.mp4").write_bytes(recording + bytes(number))
        (annotations / f"{name}.txt").write_text("valence,arousal\n" + "0,0\n" * lines)

    report = check_affwild2(tmp_path)

    assert report[0] == "problem: other: 100 lines of labels for 150 frames: expected a difference of at most 5."
    assert report[1] == "longer: 153 lines of labels for 150 frames; the last 3 lines were dropped."
    assert report[2] == "2 clips of 2 base videos, 303 labelled frames"
    assert "split train: 2 clips" in report


def test_the_check_of_a_whole_corpus_finds_no_problem(drawn_affect: Path) -> None:
    report = check_affwild2(drawn_affect)

    assert report[0].startswith("3 clips of 3 base videos, ")
    assert report[1:3] == ["split train: 2 clips", "split test: 1 clips"]


def test_the_check_finds_what_leaks_and_what_is_no_label(affwild2: Writer, drawn_affect: Path) -> None:
    lines = "0,0\n" * 149
    root = affwild2(
        {
            "Train_Set/video1_1": f"valence,arousal\n0,0\n{lines}",
            "Train_Set/video2": f"valence,arousal\n2,0\n{lines}",
            "Validation_Set/video1_2": f"valence,arousal\n0,0\n{lines}",
        },
        [],
    )
    (root / "batch1").mkdir()
    recording = (drawn_affect / "videos" / "1-25-128x128.mp4").read_bytes()  # 150 frames
    for number, name in enumerate(("video1_1", "video2", "video1_2")):
        (root / "batch1" / f"{name}.mp4").write_bytes(recording + bytes(number // 2))

    problems = [line for line in check_affwild2(root) if line.startswith("problem: ")]

    assert [problem.removeprefix("problem: ") for problem in problems] == [
        "annotations/VA_Estimation_Challenge/Train_Set/video2.txt has 1 lines beyond [-1, 1], the first is line 2: "
        "expected -5 where there is no label; they count as unlabelled.",
        "video1 is in Train_Set (video1_1) and in Validation_Set (video1_2): expected all parts of a recording in one "
        "of them.",
        "batch1/video1_1.mp4 and batch1/video2.mp4 are the same file: expected a recording of its own for each clip.",
    ]


def test_aligned_pictures_stand_in_for_a_video_that_is_not_there(affwild2: Writer) -> None:
    root = affwild2({"Train_Set/5-60-640x480_left": LABELS, "Train_Set/video2": LABELS}, ["5-60-640x480.mp4"])
    for name in ("5-60-640x480_left", "video2"):
        (root / "cropped_aligned" / name).mkdir(parents=True)

    corpus = read_affwild2(root)

    filmed, cropped = corpus.clips
    assert (filmed.video, filmed.pictures) == (root / "videos" / "5-60-640x480.mp4", None)
    assert (cropped.video, cropped.pictures) == (None, root / "cropped_aligned" / "video2")
    assert corpus.notes == (
        "1 clips have pictures and no video, and their names tell no rate: taken as 30 frames a second (video2).",
    )
    both = read_affwild2(root, aligned=True).clips[0]
    assert both.video == filmed.video
    assert both.pictures == root / "cropped_aligned" / "5-60-640x480_left"


def test_aligned_pictures_that_were_asked_for_must_be_there(affwild2: Writer) -> None:
    root = affwild2({"Train_Set/v": LABELS}, ["v.mp4"])

    with pytest.raises(CorpusError, match=r"v\.txt has no pictures: expected the folder cropped_aligned/v/\."):
        read_affwild2(root, aligned=True)
