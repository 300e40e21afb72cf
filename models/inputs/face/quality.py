"""What can be said of a face besides what it shows: how the head is turned, and how sharp the crop is."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs.face.geometry import Picture, Points

# Points of the face mesh, named as the picture shows them.
LEFT_EYE: Final = 33  # outer corners
RIGHT_EYE: Final = 263
LEFT_CHEEK: Final = 234  # where the face ends before the ears
RIGHT_CHEEK: Final = 454
FOREHEAD: Final = 10
CHIN: Final = 152

BLUR_REACH_PX: Final = 9


class HeadPose(NamedTuple):
    """Degrees; all are 0 for a face that looks straight out of the picture."""

    yaw_deg: float
    """Positive when the nose points to the right of the picture."""
    pitch_deg: float
    """Positive when the nose points up."""
    roll_deg: float
    """Positive when the head is tilted clockwise, as seen in the picture."""


def eye_angle_rad(points: Points) -> float:
    """The clockwise angle of the line from the left to the right outer corner of the eyes."""
    across = points[RIGHT_EYE] - points[LEFT_EYE]
    return math.atan2(across[1], across[0])


def head_pose(points: Points) -> HeadPose:
    """From 468 points of the face mesh, float32 (468, 3).

    Two lines of the head are level in a frontal face: from cheek to cheek and from forehead to chin. Yaw and pitch are
    the angles at which they leave the plane of the picture, roll is the angle of the eyes within it. The depths are a
    net's guess, so these are for judging a crop, not for measuring a head.
    """
    across = points[RIGHT_CHEEK] - points[LEFT_CHEEK]
    down = points[CHIN] - points[FOREHEAD]
    yaw = math.atan2(across[2], math.hypot(across[0], across[1]))
    pitch = math.atan2(-down[2], math.hypot(down[0], down[1]))
    return HeadPose(math.degrees(yaw), math.degrees(pitch), math.degrees(eye_angle_rad(points)))


def blur(crop: Picture) -> float:
    """How little a picture changes when it is blurred: 0 (sharp) to 1 (nothing to blur).

    Crété et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric" (2007).
    Along each axis, D are the absolute differences of neighbouring pixels of the grey picture and D' those after a mean
    over 9 pixels; the blur is 1 - Σ max(0, D - D') / Σ D, and the worse axis counts. Crops of 112 pixels from
    sharp portraits measure 0.4, those enlarged threefold 0.6.
    """
    grey = crop.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return max(blur_along_rows(grey), blur_along_rows(grey.T))


def blur_along_rows(grey: NDArray[np.float32]) -> float:
    half = BLUR_REACH_PX // 2
    sums = np.cumsum(np.pad(grey, ((0, 0), (half + 1, half)), mode="edge"), axis=1, dtype=np.float64)
    blurred = (sums[:, BLUR_REACH_PX:] - sums[:, :-BLUR_REACH_PX]) / BLUR_REACH_PX
    change, change_left = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(blurred, axis=1))
    total = float(change.sum())
    if total == 0:
        return 1.0
    return max(1 - float(np.maximum(change - change_left, 0).sum()) / total, 0.0)  # sums round
