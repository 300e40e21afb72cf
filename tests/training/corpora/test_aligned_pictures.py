"""Affwild2's aligned faces as windows: which picture is shown when, and what a missing one does."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models.inputs.media.media import MediaLimits
from models.spec import FaceSpec, InputSpec, LogMelSpec
from training.corpora.affwild2 import check_affwild2, read_affwild2
from training.corpora.aligned_pictures import clip_frame_times, named_rate_hz, read_pictures
from training.corpora.clip import Clip, CorpusError
from training.data.cache import prepare_clip, prepared_windows

LIMITS = MediaLimits()
FACE = InputSpec(window_s=1.0, hop_s=1.0, face=FaceSpec(frames=5, size_px=32, min_coverage=0.5))


def draw(folder: Path, numbers: range | list[int], size: tuple[int, int] = (112, 112)) -> Path:
    """A folder of grey JPEGs: picture n has the brightness 4 n."""
    folder.mkdir(parents=True)
    for number in numbers:
        with av.open(folder / f"{number:05d}.jpg", "w", format="image2") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.height, stream.width, stream.pix_fmt = *size, "yuvj444p"
            grey = np.full((*size, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode())
    return folder


def shown(faces: NDArray[np.generic]) -> list[list[int]]:
    """Which picture each face is, by its brightness."""
    return np.rint(faces.astype(np.float64).mean(axis=(2, 3, 4)) / 4).astype(int).tolist()


def clip_of(folder: Path, frames: int, clip_id: str = "7-10-112x112") -> Clip:
    return Clip(clip_id, "7", None, pictures=folder, labels=np.zeros((frames, 2), np.float32))


def test_a_picture_is_numbered_and_its_middle_square_is_resized(tmp_path: Path) -> None:
    folder = draw(tmp_path / "v", [1, 3], size=(64, 96))
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")

    pictures = read_pictures(folder)

    assert sorted(pictures.files) == [1, 3]
    assert pictures.last == 3
    crop = pictures.read(3, 32)
    assert (crop.shape, crop.dtype) == ((32, 32, 3), np.uint8)
    assert abs(int(crop.mean()) - 12) <= 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "v is no folder of pictures: expected 00001.jpg for the first frame"),
        (["00000.jpg"], "v is no folder of pictures: expected 00001.jpg for the first frame"),
        (["00001.jpg", "1.png"], "v holds 00001.jpg and 1.png: expected one a frame"),
    ],
)
def test_a_folder_that_cannot_be_numbered_is_refused(tmp_path: Path, files: list[str], sentence: str) -> None:
    (tmp_path / "v").mkdir()
    for name in files:
        (tmp_path / "v" / name).write_bytes(b"x")

    with pytest.raises(CorpusError, match=sentence):
        read_pictures(tmp_path / "v")


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "00001.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")

    with pytest.raises(CorpusError, match=r"v/00001\.jpg cannot be read: the picture is cut short"):
        read_pictures(tmp_path / "v").read(1, 32)


@pytest.mark.parametrize(
    ("name", "rate_hz"),
    [("122-60-1920x1080-3", 60), ("5-24-640x480_left", 24), ("7-30-640x480", 30), ("video7", None), ("my_clip", None)],
)
def test_a_name_may_tell_the_rate(name: str, rate_hz: float | None) -> None:
    assert named_rate_hz(name) == rate_hz


def test_frames_follow_the_rate_and_last_as_long_as_pictures_or_labels(tmp_path: Path) -> None:
    folder = draw(tmp_path / "v", [1, 12])

    np.testing.assert_allclose(clip_frame_times(clip_of(folder, 10), LIMITS), np.arange(12) / 10)
    np.testing.assert_allclose(clip_frame_times(clip_of(folder, 25), LIMITS), np.arange(25) / 10)
    np.testing.assert_allclose(clip_frame_times(clip_of(folder, 12, "video7"), LIMITS), np.arange(12) / 30)


def test_a_window_shows_the_pictures_of_its_frames(tmp_path: Path) -> None:
    folder = draw(tmp_path / "v", range(1, 21))

    arrays = prepare_clip(clip_of(folder, 20), FACE, None)

    # 10 frames a second: the middles of five parts of [0, 1) s lie in frames 2, 4, 6, 8 and 10
    assert shown(arrays["face"]) == [[2, 4, 6, 8, 10], [12, 14, 16, 18, 20]]
    assert arrays["face"].dtype == np.uint8
    assert arrays["face_observed"].tolist() == [True, True]
    assert arrays["spans_s"].tolist() == [[0, 1], [1, 2]]
    assert len(arrays["frame_times_s"]) == 20


def test_a_missing_picture_takes_the_nearest_and_too_many_leave_the_window_without_a_face(tmp_path: Path) -> None:
    folder = draw(tmp_path / "v", [1, 4, 8, 10, 12])

    arrays = prepare_clip(clip_of(folder, 20), FACE, None)

    assert arrays["face_observed"].tolist() == [True, False]  # three of five, one of five
    assert shown(arrays["face"]) == [[4, 4, 4, 8, 10], [0] * 5]
    assert len(arrays["frame_times_s"]) == 20  # every frame stays in the score


def test_windows_that_overlap_show_the_same_pictures(tmp_path: Path) -> None:
    folder = draw(tmp_path / "v", range(1, 21))

    arrays = prepare_clip(clip_of(folder, 20), FACE.model_copy(update={"hop_s": 0.6}), None)

    assert shown(arrays["face"])[1] == [8, 10, 12, 14, 16]


def test_without_a_video_there_is_no_voice(tmp_path: Path) -> None:
    spec = FACE.model_copy(update={"voice": LogMelSpec(mels=16)})

    arrays = prepare_clip(clip_of(draw(tmp_path / "v", range(1, 11)), 10), spec, None)

    assert arrays["face_observed"].tolist() == [True]
    assert arrays["voice_observed"].tolist() == [False]


def test_a_video_beside_the_pictures_gives_sound_and_times(drawn_affect: Path, tmp_path: Path) -> None:
    filmed = read_affwild2(drawn_affect).clips[0]  # 6 s at 25 frames a second, with sound
    clip = replace(filmed, pictures=draw(tmp_path / "v", [1, 13, 38]))
    spec = FACE.model_copy(
        update={"face": FaceSpec(frames=1, size_px=32, min_coverage=0.5), "voice": LogMelSpec(mels=16)}
    )

    arrays = prepare_clip(clip, spec, None)

    assert len(arrays["frame_times_s"]) == 150
    assert arrays["face_observed"].tolist() == [True, True, False, False, False, False]  # 0.5 s is frame 13
    assert shown(arrays["face"])[:2] == [[13], [38]]
    assert arrays["voice_observed"].any()


def test_a_changed_picture_is_prepared_again(tmp_path: Path) -> None:
    clip = clip_of(draw(tmp_path / "v", range(1, 11)), 10)

    def prepare() -> Path:
        (file,) = prepared_windows([clip], FACE, tmp_path, workers=1, folder=tmp_path / "cache", label="test")
        return file

    first = prepare()
    assert prepare() == first
    (tmp_path / "v" / "00002.jpg").write_bytes((tmp_path / "v" / "00009.jpg").read_bytes())
    assert prepare() != first


def test_the_check_counts_frames_without_a_picture(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations" / "VA_Estimation_Challenge" / "Train_Set"
    annotations.mkdir(parents=True)
    (annotations / "video7.txt").write_text("valence,arousal\n" + "0,0\n" * 10)
    draw(tmp_path / "cropped_aligned" / "video7", [1, 2, 3, 6])

    lines = check_affwild2(tmp_path)

    assert "video7: 6 of 10 frames have no picture" in lines
    assert "1 clips of 1 base videos, 10 labelled frames" in lines
    assert any("taken as 30 frames a second (video7)" in line for line in lines)
