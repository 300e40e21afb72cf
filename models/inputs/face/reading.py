"""One face in one frame: what the landmark net makes of a place, and whether the detector agrees."""

import math
from typing import Final, NamedTuple

import numpy as np

from models.inputs.face.geometry import Box, Picture, Points, Roi, bounding_box, overlap, square_around
from models.inputs.face.nets import Detection, FaceNets
from models.inputs.face.quality import eye_angle_rad

NET_MARGIN: Final = 1.5
"""Side of the square that the landmark net reads over the longer extent of the points."""
MIN_PRESENCE: Final = 0.5
MIN_FACE_PX: Final = 12
MAX_SHIFT: Final = 0.1
MAX_TURN_RAD: Final = 0.2
"""A face further off its square (shares of the side) or more askew in it is read again, in the square it should have.
With a face 30 % too low, the mean error of the points fell from 0.15 of the distance of the eyes to 0.01."""
MAX_READINGS: Final = 3
SETTLED_OVERLAP: Final = 0.9
MAX_DISAGREEMENT: Final = 0.3
NOSE_TIP: Final = 1
INNER_LIPS: Final = (13, 14)
DETECTED_NOSE: Final = 2
DETECTED_MOUTH: Final = 3


class Face(NamedTuple):
    """What the landmark net makes of one frame."""

    points: Points
    presence: float
    box: Box
    roi: Roi
    """Where to look for it next."""
    framed: bool
    """Whether that is nearly where it was read. Otherwise the points are a first guess."""


def read(nets: FaceNets, rgb: Picture, roi: Roi) -> Face | None:
    """The face in this square; None where the landmark net sees none, or an impossible one."""
    face = read_once(nets, rgb, roi)
    return face if face is None or face.framed else read_once(nets, rgb, face.roi)


def settle(nets: FaceNets, rgb: Picture, face: Face) -> Face:
    """The face read again until its box stays where it is: how a face looks is told from its exact place."""
    for _ in range(MAX_READINGS):
        again = read_once(nets, rgb, face.roi)
        if again is None:
            break
        settled, face = overlap(again.box, face.box) >= SETTLED_OVERLAP, again
        if settled:
            break
    return face


def read_once(nets: FaceNets, rgb: Picture, roi: Roi) -> Face | None:
    points, presence = nets.landmarks(rgb, roi)
    if presence < MIN_PRESENCE:
        return None
    box, following = bounding_box(points), square_around(points, eye_angle_rad(points), NET_MARGIN)
    height, width = rgb.shape[:2]
    inside = 0 <= following.center_x < width and 0 <= following.center_y < height
    if not inside or min(box.w, box.h) < MIN_FACE_PX:
        return None
    return Face(points, presence, box, following, well_framed(roi, following))


def confirm(nets: FaceNets, rgb: Picture, detection: Detection) -> Face | None:
    """The face, if both nets see one, and place its nose and mouth alike."""
    face = read(nets, rgb, detected_roi(detection))
    return face if face is not None and agree(detection, face) else None


def agree(detection: Detection, face: Face) -> bool:
    """Whether the two are one face: their nose tips and mouths lie at one place."""
    return disagreement(detection, face.points) <= MAX_DISAGREEMENT


def well_framed(read_in: Roi, wanted: Roi) -> bool:
    """Whether the square that was read is nearly the one that suits the face found in it."""
    shift = max(
        abs(wanted.center_x - read_in.center_x),
        abs(wanted.center_y - read_in.center_y),
        abs(wanted.size - read_in.size),
    )
    turn = math.remainder(wanted.angle_rad - read_in.angle_rad, 2 * math.pi)
    return shift <= MAX_SHIFT * read_in.size and abs(turn) <= MAX_TURN_RAD


def detected_roi(detection: Detection) -> Roi:
    """The square to read for a detected face: around its box, upright to its eyes."""
    box, (left_eye, right_eye) = detection.box, detection.keypoints[:2]
    angle = math.atan2(right_eye[1] - left_eye[1], right_eye[0] - left_eye[0])
    return Roi(box.x + box.w / 2, box.y + box.h / 2, NET_MARGIN * max(box.w, box.h), angle)


def disagreement(detection: Detection, points: Points) -> float:
    """How far the nets' nose tips or mouths lie apart, as a share of the box; a true face measures 0.02 to 0.25."""
    seen = np.stack([points[NOSE_TIP, :2], points[list(INNER_LIPS), :2].mean(axis=0)])
    apart = np.linalg.norm(detection.keypoints[[DETECTED_NOSE, DETECTED_MOUTH]] - seen, axis=1)
    return float(apart.max()) / max(detection.box.w, detection.box.h)
