"""BlazeFace and the face mesh: where the faces are, and 468 points on one of them.

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs" (arXiv 1907.05047); Kartynnik et
al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs" (arXiv 1907.06724). The nets are Google's
(Apache-2.0) in ONNX, one file each, as a bundle's `face/` folder holds them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from models.inputs.face.geometry import Box, Floats, Picture, Points, Roi, crop, overlap, to_picture

Net = Callable[[Floats], tuple[Floats, Floats]]
"""float32 (1, size, size, 3) -> (boxes, scores) of a detector, (points, presence) of the landmark net; thread-safe."""

DETECTOR_SHORT_FILE: Final = "detector_short.onnx"
DETECTOR_FULL_FILE: Final = "detector_full.onnx"
LANDMARKS_FILE: Final = "landmarks.onnx"

LANDMARKS_SIZE_PX: Final = 192
SAME_FACE_OVERLAP: Final = 0.3
"""Candidates that overlap by this much (intersection over union) are one face."""
NOSE: Final = 2
SAME_NOSE: Final = 0.25  # of the larger box
MAX_LOGIT: Final = 80.0  # exp(80) is finite in float32


class Detection(NamedTuple):
    """One face, in pixels of the picture; it may reach over the edge."""

    box: Box
    score: float
    keypoints: Points
    """float32 (6, 2): eyes, nose tip, mouth, ears; of each pair the picture's left one first."""


def grid_anchors(size_px: int, layers: tuple[tuple[int, int], ...]) -> Floats:
    """Centres of the detector's candidates, float32 (n, 2) in 0..1: for each (stride, count), row by row."""
    centres = []
    for stride, count in layers:
        steps = (np.arange(size_px // stride, dtype=np.float32) + 0.5) * stride / size_px
        y, x = np.meshgrid(steps, steps, indexing="ij")
        centres.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(centres)


class Grid(NamedTuple):
    """What one detector's candidates stand for."""

    size_px: int
    anchors: Floats
    min_score: float


SHORT_RANGE: Final = Grid(128, grid_anchors(128, ((8, 2), (16, 6))), 0.5)  # 896 anchors
FULL_RANGE: Final = Grid(192, grid_anchors(192, ((4, 1),)), 0.6)  # 2304 anchors; below 0.6 it takes letters for faces


@dataclass(frozen=True)
class FaceNets:
    """The three nets, each as a plain function. May be shared by threads."""

    detector_short: Net
    detector_full: Net
    landmark_net: Net

    def detect(self, rgb: Picture) -> list[Detection]:
        """Faces in a picture, uint8 (H, W, 3), the most certain first; scores are 0.5 or more.

        The short-range net sees faces up to about two metres away. The full-range net costs three times as much, and
        is asked only where the short-range net finds nothing.
        """
        near = search(rgb, self.detector_short, SHORT_RANGE)
        return near or search(rgb, self.detector_full, FULL_RANGE)

    def detect_all(self, rgb: Picture) -> list[Detection]:
        """As `detect`, but both nets are always asked: whoever sits in front hides nobody further away."""
        near, far = search(rgb, self.detector_short, SHORT_RANGE), search(rgb, self.detector_full, FULL_RANGE)
        return near + [d for d in far if not any(one_nose(d, other) for other in near)]

    def landmarks(self, rgb: Picture, roi: Roi) -> tuple[Points, float]:
        """468 points (float32 (468, 3), pixels of the picture) in a square that holds a face, and how surely it does.

        The square should be upright to the face and about 1.5 times as large. Depth (the third column) is on the scale
        of x and y, relative to the head's middle. Presence lies in 0..1; where it is low the points mean nothing.
        """
        picture = crop(rgb, roi, LANDMARKS_SIZE_PX)[None].astype(np.float32) / np.float32(255)
        points, presence = self.landmark_net(picture)
        places = points.reshape(-1, 3) / np.float32(LANDMARKS_SIZE_PX)
        return to_picture(places, roi), float(sigmoid(presence).item())


def load_face_nets(folder: Path, *, threads: int = 1) -> FaceNets:
    """Read the three files; each net uses at most `threads` cores, and none while it waits.

    Raises FileNotFoundError where a file is missing.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")  # where a service shares its arena

    def load(name: str) -> Net:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"no {name} in {folder}: a folder of face nets holds three .onnx files")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(image: Floats) -> tuple[Floats, Floats]:
            first, second = session.run(None, {"image": image})
            return first, second

        return run

    return FaceNets(load(DETECTOR_SHORT_FILE), load(DETECTOR_FULL_FILE), load(LANDMARKS_FILE))


def search(rgb: Picture, net: Net, grid: Grid) -> list[Detection]:
    """Run one detector on the whole picture, fitted into its square."""
    height, width = rgb.shape[:2]
    whole = Roi(width / 2, height / 2, max(height, width))
    boxes, logits = net(
        letterbox(rgb, whole, grid.size_px)[None].astype(np.float32) / np.float32(127.5) - np.float32(1)
    )
    return merge(decode(boxes[0], logits[0, :, 0], grid, whole))


def letterbox(rgb: Picture, whole: Roi, size_px: int) -> Picture:
    """The whole picture in the middle of a square of `size_px`, black beside it."""
    fitted = crop(rgb, whole, size_px)
    height, width = rgb.shape[:2]
    bar_y, bar_x = (math.floor((1 - side / whole.size) / 2 * size_px + 0.5) for side in (height, width))
    fitted[:bar_y], fitted[size_px - bar_y :] = 0, 0
    fitted[:, :bar_x], fitted[:, size_px - bar_x :] = 0, 0
    return fitted


def decode(boxes: Floats, logits: Floats, grid: Grid, whole: Roi) -> list[Detection]:
    """The candidates with a sufficient score, best first. `boxes` (n, 16): centre, size and six keypoints of each."""
    scores = sigmoid(logits)
    best = np.argsort(-scores, kind="stable")
    found = []
    for candidate in best[scores[best] >= grid.min_score]:
        pairs = boxes[candidate].reshape(8, 2) / np.float32(grid.size_px)
        width, height = (pairs[1] * whole.size).tolist()
        if width <= 0 or height <= 0:
            continue
        places = to_picture(pairs[[0, 2, 3, 4, 5, 6, 7]] + grid.anchors[candidate], whole)
        x, y = places[0].tolist()
        found.append(Detection(Box(x - width / 2, y - height / 2, width, height), float(scores[candidate]), places[1:]))
    return found


def merge(candidates: list[Detection]) -> list[Detection]:
    """One detection a face: its best candidate's score, and the mean place of all, weighted by their scores."""
    faces = []
    while candidates:
        best = candidates[0]
        same = [c for c in candidates if overlap(c.box, best.box) > SAME_FACE_OVERLAP]
        candidates = [c for c in candidates if overlap(c.box, best.box) <= SAME_FACE_OVERLAP]
        weights = [c.score for c in same]
        box = Box(*np.average([c.box for c in same], axis=0, weights=weights).tolist())
        keypoints = np.average([c.keypoints for c in same], axis=0, weights=weights).astype(np.float32)
        faces.append(Detection(box, best.score, keypoints))
    return faces


def one_nose(a: Detection, b: Detection) -> bool:
    """Whether two nets found one face: their boxes differ in size (the near one's measures 1.6 times the far one's),
    but not the places of the nose tip."""
    apart = math.dist(a.keypoints[NOSE].tolist(), b.keypoints[NOSE].tolist())
    return apart <= SAME_NOSE * max(a.box.w, b.box.w)


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT))), np.float32)
