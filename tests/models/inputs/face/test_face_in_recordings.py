"""Boxes and quality as they are promised: of the picture as it is displayed, in the ranges of the contract."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from models.inputs.face.face import FaceObservation, FaceTracker
from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.media.media import MediaLimits, frames_at

from .composed import decode


@pytest.fixture(scope="module")
def nets(face_nets_folder: Path) -> FaceNets:
    return load_face_nets(face_nets_folder)


@pytest.fixture(scope="module")
def photograph(clips: Path) -> np.ndarray:
    """560 x 420, the face somewhat left of the middle: told apart from its mirror image."""
    ((_, rgb),) = decode(clips / "single_face.jpg")
    return rgb[80:500, 40:600]


def seen_in(nets: FaceNets, video: bytes) -> tuple[FaceObservation, tuple[int, ...]]:
    (frame,) = frames_at(video, [0.0], MediaLimits())
    (seen,) = FaceTracker(nets).step(frame.time_s, frame.rgb, frame.stretch)
    return seen, frame.rgb.shape


@pytest.mark.parametrize(
    ("stored", "matrix"),
    [
        (lambda rgb: rgb, None),
        (lambda rgb: np.rot90(rgb, k=1), (0, 1, -1, 0)),
        (lambda rgb: np.rot90(rgb, k=-1), (0, -1, 1, 0)),
        (lambda rgb: rgb[::-1, ::-1], (-1, 0, 0, -1)),
        (lambda rgb: rgb[:, ::-1], (-1, 0, 0, 1)),
    ],
    ids=["as it is", "turned left", "turned right", "upside down", "mirrored"],
)
def test_boxes_are_of_the_picture_as_it_is_displayed(
    nets: FaceNets, photograph: np.ndarray, write_video: Callable[..., bytes], stored: Callable, matrix: tuple | None
) -> None:
    (expected,) = FaceTracker(nets).step(0.0, photograph)

    seen, shape = seen_in(nets, write_video([np.ascontiguousarray(stored(photograph))] * 2, matrix=matrix))

    assert shape == photograph.shape
    assert seen.box == pytest.approx(expected.box, abs=6)
    assert (seen.yaw_deg, seen.pitch_deg, seen.roll_deg) == pytest.approx(
        (expected.yaw_deg, expected.pitch_deg, expected.roll_deg), abs=3
    )


def test_a_face_of_narrow_pixels_is_read_in_its_true_proportions(
    nets: FaceNets, photograph: np.ndarray, write_video: Callable[..., bytes]
) -> None:
    (expected,) = FaceTracker(nets).step(0.0, photograph)
    narrow = VideoFrame.from_ndarray(photograph).reformat(width=280).to_ndarray()

    seen, shape = seen_in(nets, write_video([narrow] * 2, options={"x264-params": "sar=2/1"}))
    squeezed, _ = seen_in(nets, write_video([narrow] * 2))

    x, y, w, h = expected.box
    assert shape == (296, 395, 3)
    assert seen.box == pytest.approx((x / 2, y, w / 2, h), abs=6)
    off, off_squeezed = (np.abs(one.crop.astype(int) - expected.crop).mean() for one in (seen, squeezed))
    assert off < 10
    assert off_squeezed > 2 * off


@pytest.mark.parametrize("follow", ["largest", "all"])
@pytest.mark.parametrize("name", ["single_face.jpg", "multi_face.jpg", "single_face.mp4", "face_noface.mov"])
def test_every_observation_keeps_to_its_ranges(nets: FaceNets, clips: Path, name: str, follow: str) -> None:
    tracker = FaceTracker(nets, follow=follow)
    count = 0
    for time_s, rgb in list(decode(clips / name))[::12]:
        for seen in tracker.step(time_s, rgb):
            count += 1
            x, y, w, h = seen.box
            assert [type(value) for value in seen.box] == [int] * 4
            assert 0 <= x < x + w <= rgb.shape[1]
            assert 0 <= y < y + h <= rgb.shape[0]
            assert 0.5 <= seen.score <= 1
            assert 0 <= seen.blur <= 1
            assert max(abs(seen.yaw_deg), abs(seen.pitch_deg)) <= 90
            assert abs(seen.roll_deg) <= 180
            assert (seen.crop.shape, seen.crop.dtype, seen.time_s) == ((112, 112, 3), np.uint8, time_s)
    assert count > 0
