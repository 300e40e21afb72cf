"""The faces of a clip, frame by frame: where each is, whose it is, and an upright square crop of it."""

import math
from typing import Literal, NamedTuple

import numpy as np

from models.inputs.face.following import AllFaces, LargestFace, Seen
from models.inputs.face.geometry import Box, Picture
from models.inputs.face.nets import FaceNets
from models.inputs.face.quality import blur

Follow = Literal["largest", "all"]


class FaceObservation(NamedTuple):
    """A face in one frame."""

    face_id: int
    """Counts from 0 in order of first appearance; a person keeps it as long as `People` can tell."""
    time_s: float
    box: tuple[int, int, int, int]
    """x, y, w, h in pixels of the picture before it was stretched, around the points, clipped to the picture."""
    score: float
    """0..1: how surely the landmark net sees a face here, in this frame."""
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    blur: float
    """0 (sharp) to 1, of the crop: a small face that had to be enlarged is blurred too."""
    crop: Picture
    """uint8 (size_px, size_px, 3), RGB, eyes level."""


class FaceTracker:
    """Follows the largest face or all of them, and tells who is who.

    `largest` keeps to one face until it is lost, or another is 1.5 times as large for a second. `all` follows the
    `max_faces` largest, and one that is followed gives way only to one 1.5 times as large.

    Feed it one clip's frames in order of presentation; any spacing will do. What tells faces apart (`appearance`)
    lives in this object alone, for one clip and one request. Not to be shared by threads. Raises ValueError where
    `max_faces` is below 1.
    """

    def __init__(self, nets: FaceNets, *, size_px: int = 112, follow: Follow = "largest", max_faces: int = 8) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, got {max_faces}")
        self.following = LargestFace(nets, size_px) if follow == "largest" else AllFaces(nets, size_px, max_faces)

    def step(
        self, time_s: float, rgb: Picture, stretch: tuple[float, float] = (1.0, 1.0)
    ) -> tuple[FaceObservation, ...]:
        """The faces in this frame, uint8 (H, W, 3), the largest first; at most one with `largest`.

        `stretch` is how much wider and higher the frame was made so that its pixels are square; boxes are of the frame
        before that. Raises ValueError for an array of another kind.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ValueError(f"a frame must be uint8 (H, W, 3) and not empty; got {rgb.dtype} {rgb.shape}")
        return tuple(observation(time_s, rgb, stretch, seen) for seen in self.following.step(time_s, rgb))


def observation(time_s: float, rgb: Picture, stretch: tuple[float, float], seen: Seen) -> FaceObservation:
    (face, picture, pose, _), face_id = seen.sighting, seen.track.face_id
    box = pixel_box(face.box, rgb, stretch)
    return FaceObservation(face_id, time_s, box, face.presence, *pose, blur(picture), picture)


def pixel_box(box: Box, rgb: Picture, stretch: tuple[float, float]) -> tuple[int, int, int, int]:
    """The whole pixels that the box touches, within the picture before it was stretched; at least one."""
    across, down = stretch
    box = Box(box.x / across, box.y / down, box.w / across, box.h / down)
    width, height = round(rgb.shape[1] / across), round(rgb.shape[0] / down)
    left, top = min(max(math.floor(box.x), 0), width - 1), min(max(math.floor(box.y), 0), height - 1)
    right, bottom = min(math.ceil(box.x + box.w), width), min(math.ceil(box.y + box.h), height)
    return left, top, max(right - left, 1), max(bottom - top, 1)
