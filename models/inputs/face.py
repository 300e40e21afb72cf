"""One face followed through a clip: where it is, and an upright square crop of it at each sampled frame."""

import math
from typing import Final, NamedTuple

import numpy as np

from models.inputs.face_geometry import Box, Picture, Points, Roi, bounding_box, crop, overlap, square_around
from models.inputs.face_nets import Detection, FaceNets
from models.inputs.face_quality import blur, eye_angle_rad, head_pose

CROP_MARGIN: Final = 1.3
"""Side of the crop over the longer extent of the points, which reach from the hairline to the chin."""
NET_MARGIN: Final = 1.5
"""The same for the square that the landmark net reads."""
MIN_PRESENCE: Final = 0.5
MIN_FACE_PX: Final = 12
MAX_SHIFT: Final = 0.1
MAX_TURN_RAD: Final = 0.2
"""A face further off its square (shares of the side) or more askew in it is read again, in the square it should have.
With a face 30 % too low, the mean error of the points fell from 0.15 of the distance of the eyes to 0.01."""
MAX_DISAGREEMENT: Final = 0.3
NOSE_TIP: Final = 1
INNER_LIPS: Final = (13, 14)
DETECTED_NOSE: Final = 2
DETECTED_MOUTH: Final = 3
DETECT_EVERY_S: Final = 0.5
SAME_FACE_OVERLAP: Final = 0.3
FORGET_AFTER_S: Final = 1.0
RIVAL_AREA: Final = 1.5
RIVAL_AFTER_S: Final = 1.0
TIME_TOLERANCE_S: Final = 1e-6  # 1.2 - 0.7 < 0.5 in binary


class FaceObservation(NamedTuple):
    """A face in one frame."""

    face_id: int
    """Counts from 0; stays the same while the face is the same, as far as its track tells."""
    time_s: float
    box: tuple[int, int, int, int]
    """x, y, w, h in pixels, around the points, clipped to the picture."""
    score: float
    """0..1: how surely the landmark net sees a face here, in this frame."""
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    blur: float
    """0 (sharp) to 1, of the crop: a small face that had to be enlarged is blurred too."""
    crop: Picture
    """uint8 (size_px, size_px, 3), RGB, eyes level."""


class Face(NamedTuple):
    """What the landmark net makes of one frame."""

    points: Points
    presence: float
    box: Box
    roi: Roi
    """Where to look for it next."""


class Track(NamedTuple):
    """The face that was followed last; `held` until it is lost."""

    face_id: int
    face: Face
    seen_s: float
    held: bool


class FaceTracker:
    """Follows the largest face; keeps to it until it is lost, or another is 1.5 times as large for a second.

    Feed it one clip's frames in order of presentation; any spacing will do. Not to be shared by threads.
    """

    def __init__(self, nets: FaceNets, *, size_px: int = 112) -> None:
        self.nets = nets
        self.size_px = size_px
        self.track: Track | None = None
        self.faces_seen = 0
        self.detected_s = -math.inf
        self.rival_since_s: float | None = None

    def step(self, time_s: float, rgb: Picture) -> FaceObservation | None:
        """The followed face in this frame, uint8 (H, W, 3); None where there is none.

        Raises ValueError for an array of another kind.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
            raise ValueError(f"a frame must be uint8 (H, W, 3) and not empty; got {rgb.dtype} {rgb.shape}")
        self.track = self.follow(time_s, rgb, self.track)
        if self.track is None or not self.track.held:
            return None
        face, points = self.track.face, self.track.face.points
        picture = crop(rgb, square_around(points, face.roi.angle_rad, CROP_MARGIN), self.size_px)
        box, pose = pixel_box(face.box, rgb), head_pose(points)
        return FaceObservation(self.track.face_id, time_s, box, face.presence, *pose, blur(picture), picture)

    def follow(self, time_s: float, rgb: Picture, track: Track | None) -> Track | None:
        """The track after this frame: found again, taken over by another face, lost, or still None."""
        face = self.read(rgb, track.face.roi) if track is not None and track.held else None
        if track is None or face is None:
            found = self.reacquire(time_s, rgb, track)
            return found if found is not None or track is None else track._replace(held=False)
        track = track._replace(face=face, seen_s=time_s)
        if time_s - self.detected_s < DETECT_EVERY_S - TIME_TOLERANCE_S:
            return track
        return self.rival(time_s, rgb, track) or track

    def reacquire(self, time_s: float, rgb: Picture, lost: Track | None) -> Track | None:
        """The face where the lost one was a moment ago, else the largest."""
        detections = self.detect(time_s, rgb)
        self.rival_since_s = None
        if lost is not None and time_s - lost.seen_s <= FORGET_AFTER_S + TIME_TOLERANCE_S:
            near = [d for d in detections if overlap(d.box, lost.face.box) >= SAME_FACE_OVERLAP]
            for detection in sorted(near, key=lambda d: overlap(d.box, lost.face.box), reverse=True):
                if face := self.confirm(rgb, detection):
                    return Track(lost.face_id, face, time_s, held=True)
        return self.start(time_s, rgb, detections)

    def rival(self, time_s: float, rgb: Picture, track: Track) -> Track | None:
        """Another face that has been much larger than the followed one at every detection for a second."""
        detections = self.detect(time_s, rgb)
        own = [d for d in detections if overlap(d.box, track.face.box) >= SAME_FACE_OVERLAP]
        others = [d for d in detections if overlap(d.box, track.face.box) < SAME_FACE_OVERLAP]
        area = own[0].box.area if own else track.face.box.area
        rivals = [d for d in others if d.box.area >= RIVAL_AREA * area]
        if not rivals:
            self.rival_since_s = None
        elif self.rival_since_s is None:
            self.rival_since_s = time_s
        elif time_s - self.rival_since_s >= RIVAL_AFTER_S - TIME_TOLERANCE_S:
            self.rival_since_s = None
            return self.start(time_s, rgb, rivals)
        return None

    def detect(self, time_s: float, rgb: Picture) -> list[Detection]:
        """All faces, the largest first."""
        self.detected_s = time_s
        return sorted(self.nets.detect(rgb), key=lambda d: d.box.area, reverse=True)

    def start(self, time_s: float, rgb: Picture, detections: list[Detection]) -> Track | None:
        """A new face: the first of these in which the landmark net sees one as well."""
        for detection in detections:
            if face := self.confirm(rgb, detection):
                self.faces_seen += 1
                return Track(self.faces_seen - 1, face, time_s, held=True)
        return None

    def confirm(self, rgb: Picture, detection: Detection) -> Face | None:
        """The face, if both nets see one, and place its nose and mouth alike."""
        face = self.read(rgb, detected_roi(detection))
        return face if face is not None and disagreement(detection, face.points) <= MAX_DISAGREEMENT else None

    def read(self, rgb: Picture, roi: Roi) -> Face | None:
        """The points in this square; None where the landmark net sees no face, or an impossible one."""
        face = self.read_once(rgb, roi)
        if face is None:
            return None
        return face if well_framed(roi, face.roi) else self.read_once(rgb, face.roi)

    def read_once(self, rgb: Picture, roi: Roi) -> Face | None:
        points, presence = self.nets.landmarks(rgb, roi)
        if presence < MIN_PRESENCE:
            return None
        box, following = bounding_box(points), square_around(points, eye_angle_rad(points), NET_MARGIN)
        height, width = rgb.shape[:2]
        inside = 0 <= following.center_x < width and 0 <= following.center_y < height
        if not inside or min(box.w, box.h) < MIN_FACE_PX:
            return None
        return Face(points, presence, box, following)


def well_framed(read: Roi, wanted: Roi) -> bool:
    """Whether the square that was read is nearly the one that suits the face found in it."""
    shift = max(
        abs(wanted.center_x - read.center_x), abs(wanted.center_y - read.center_y), abs(wanted.size - read.size)
    )
    turn = math.remainder(wanted.angle_rad - read.angle_rad, 2 * math.pi)
    return shift <= MAX_SHIFT * read.size and abs(turn) <= MAX_TURN_RAD


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


def pixel_box(box: Box, rgb: Picture) -> tuple[int, int, int, int]:
    """The whole pixels that the box touches, within the picture; at least one."""
    height, width = rgb.shape[:2]
    left, top = min(max(math.floor(box.x), 0), width - 1), min(max(math.floor(box.y), 0), height - 1)
    right, bottom = min(math.ceil(box.x + box.w), width), min(math.ceil(box.y + box.h), height)
    return left, top, max(right - left, 1), max(bottom - top, 1)
