"""The drawn corpora have the real formats, are the same again for the same seed, and show faces."""

import csv
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.signals import read_biosignals
from training.corpora.affect_model import SyntheticAffect
from training.corpora.affwild2 import read_affwild2
from training.corpora.biovid import read_biovid
from training.corpora.pain_model import SyntheticPain
from training.corpora.synthetic import synthesize_affwild2, synthesize_biovid
from training.face_nets.fetch import FaceNetsMissingError, cached_face_nets
from training.files.replacing import FolderInUseError


@pytest.fixture(scope="module")
def face_nets() -> FaceNets:
    try:
        return load_face_nets(cached_face_nets())
    except FaceNetsMissingError as missing:
        pytest.skip(str(missing))


def pictures(path: Path, step: int) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames[::step]]


def digests(root: Path, pattern: str) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob(pattern)
    }


def test_the_pain_corpus_reads_back(drawn_pain: Path) -> None:
    corpus = read_biovid(drawn_pain)

    assert corpus.synthetic
    assert "CC0" in corpus.licence
    assert len({clip.id for clip in corpus.clips}) == 15
    assert len({clip.subject for clip in corpus.clips}) == 3
    assert sorted(clip.level for clip in corpus.clips if clip.level is not None) == sorted([0, 1, 2, 3, 4] * 3)
    assert {clip.groups["sex"] for clip in corpus.clips} <= {"female", "male"}
    assert "unknown" not in {clip.groups["age"] for clip in corpus.clips}


def test_the_pain_corpus_has_biovids_columns(drawn_pain: Path) -> None:
    with (drawn_pain / "samples.csv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    signals = next(drawn_pain.rglob("*_bio.csv")).read_text().splitlines()

    assert rows[0] == ["subject_id", "subject_name", "class_id", "class_name", "sample_name"]
    assert all(sample == f"{subject}-{level}-{sample[-3:]}" for _, subject, _, level, sample in rows[1:])
    assert [row[2] for row in rows[1:6]] == ["0", "1", "2", "3", "4"]
    assert signals[0] == "time\tgsr\tecg\temg_trapezius"
    assert len(signals) == 1 + 2816  # 5.5 s at 512 Hz


def test_biosignals_are_in_microseconds_at_512_hz(drawn_pain: Path) -> None:
    clip = read_biovid(drawn_pain).clips[0]
    assert clip.signals is not None

    signals = read_biosignals(clip.signals, ("gsr", "ecg", "emg_trapezius"))

    assert signals.rate_hz == pytest.approx(512, abs=0.05)
    assert signals.values.shape == (3, 2816)
    assert clip.signals.read_text().splitlines()[-1].startswith("5498047\t")  # 2815 / 512 s


def test_pain_videos_are_h264_at_25_frames_a_second_without_sound(drawn_pain: Path) -> None:
    clip = read_biovid(drawn_pain).clips[0]

    with av.open(str(clip.video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.width, stream.height) == ("h264", 25, 128, 128)
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 138  # the frames that begin within 5.5 s


def test_affect_videos_have_a_mono_aac_track_as_long_as_the_picture(drawn_affect: Path) -> None:
    clip = read_affwild2(drawn_affect).clips[0]

    with av.open(str(clip.video)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.average_rate) == ("h264", 25)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16000, 1)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) / 16000 == pytest.approx(6.0, abs=0.2)
    assert 0.005 < float(np.sqrt((sound**2).mean())) < 0.5


def test_the_affect_corpus_reads_back(drawn_affect: Path) -> None:
    corpus = read_affwild2(drawn_affect)

    assert corpus.synthetic
    assert [(clip.id, clip.split) for clip in corpus.clips] == [
        ("1-25-128x128", "train"),
        ("2-25-128x128", "train"),
        ("3-25-128x128", "test"),
    ]
    for clip in corpus.clips:
        assert clip.labels is not None
        assert clip.labels.shape == (150, 2)
        assert 0.1 <= np.isnan(clip.labels[:, 0]).mean() < 0.5


def test_annotations_have_the_header_and_minus_five_where_there_is_no_label(drawn_affect: Path) -> None:
    lines = next(drawn_affect.rglob("Train_Set/*.txt")).read_text().splitlines()

    assert lines[0] == "valence,arousal"
    assert len(lines) == 1 + 150
    assert "-5.000,-5.000" in lines


def test_the_number_of_workers_and_of_people_changes_no_person(
    drawn_pain: Path, pain_settings: SyntheticPain, tmp_path: Path
) -> None:
    synthesize_biovid(tmp_path / "pain", pain_settings.model_copy(update={"people": 2}), workers=2)

    again, before = digests(tmp_path / "pain", "*_bio.csv"), digests(drawn_pain, "*_bio.csv")
    assert len(again) == 10
    assert again.items() <= before.items()
    lines = (tmp_path / "pain" / "samples.csv").read_text().splitlines()
    assert lines == (drawn_pain / "samples.csv").read_text().splitlines()[: len(lines)]


def test_the_same_seed_gives_the_same_labels_and_another_seed_others(
    drawn_affect: Path, affect_settings: SyntheticAffect, tmp_path: Path
) -> None:
    one = affect_settings.model_copy(update={"videos": 2, "video_s": 6.0})
    synthesize_affwild2(tmp_path / "same", one, workers=1)
    synthesize_affwild2(tmp_path / "other", one.model_copy(update={"seed": 8}), workers=1)

    name = "annotations/VA_Estimation_Challenge/Train_Set/1-25-128x128.txt"
    assert (tmp_path / "same" / name).read_text() == (drawn_affect / name).read_text()
    assert (tmp_path / "other" / name).read_text() != (drawn_affect / name).read_text()


def test_a_corpus_of_the_same_settings_is_left_alone(drawn_affect: Path, affect_settings: SyntheticAffect) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn_affect.rglob("*")}

    synthesize_affwild2(drawn_affect, affect_settings)

    assert {path: path.stat().st_mtime_ns for path in drawn_affect.rglob("*")} == before


def test_a_synthetic_corpus_of_other_settings_is_replaced(tmp_path: Path) -> None:
    settings = SyntheticAffect(videos=2, validation_videos=1, video_s=2.0, picture_px=96)
    synthesize_affwild2(tmp_path / "affect", settings, workers=1)

    synthesize_affwild2(tmp_path / "affect", settings.model_copy(update={"video_s": 3.0}), workers=1)

    labels = read_affwild2(tmp_path / "affect").clips[0].labels
    assert labels is not None
    assert len(labels) == 75
    assert [path.name for path in tmp_path.iterdir()] == ["affect"]


def test_a_folder_with_anything_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(FolderInUseError, match="holds something else than a synthetic corpus"):
        synthesize_biovid(tmp_path, SyntheticPain(people=1, clips_per_class=1))

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_marker_says_that_nobody_was_recorded(drawn_pain: Path) -> None:
    text = (drawn_pain / "SYNTHETIC.md").read_text()

    assert "Nobody was recorded" in text
    assert "CC0" in text


def test_the_face_detector_finds_at_least_95_of_100_drawn_faces(
    drawn_pain: Path, drawn_affect: Path, face_nets: FaceNets
) -> None:
    videos = [clip.video for corpus in (read_biovid(drawn_pain), read_affwild2(drawn_affect)) for clip in corpus.clips]

    frames = [frame for video in videos if video is not None for frame in pictures(video, step=30)]
    found = [bool(face_nets.detect(frame)) for frame in frames]

    assert len(found) >= 80
    assert np.mean(found) >= 0.95
