"""Affwild2's aligned faces: cropped_aligned/<clip>/00001.jpg is the face in the clip's first frame.

A frame whose picture is missing had no face that its owners could find: it stays a frame, and its label counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.inputs.face.geometry import Picture, Roi, crop
from models.inputs.media.media import MediaError, MediaLimits, decode_picture, frame_times
from models.inputs.windows import Window
from models.inputs.windows import frame_times as sampled_times
from models.spec import FaceSpec
from training.corpora.clip import Clip, CorpusError

PICTURE_NAME: Final = re.compile(r"^(\d+)\.(?:jpe?g|png)$", re.IGNORECASE)
NAMED_RATE: Final = re.compile(r"^\d+-(\d+)-\d+x\d+(?:$|[-_])")
"""`122-60-1920x1080-3` has 60 frames a second."""
USUAL_RATE_HZ: Final = 30.0
LIMITS: Final = MediaLimits()
TOLERANCE_S: Final = 0.0005


@dataclass(frozen=True)
class AlignedPictures:
    """The pictures of one clip, by the number of their frame, which counts from 1."""

    files: Mapping[int, Path]

    @property
    def last(self) -> int:
        """The largest number there is."""
        return max(self.files)

    def read(self, number: int, size_px: int) -> Picture:
        """The face in frame `number`: uint8 (size_px, size_px, 3), RGB, the picture's middle square resized.

        KeyError where there is no picture of this frame. Raises CorpusError, which names it, for a damaged one.
        """
        path = self.files[number]
        try:
            rgb = decode_picture(path.read_bytes(), LIMITS)
        except (MediaError, OSError) as error:
            raise CorpusError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
        height, width = rgb.shape[:2]
        return crop(rgb, Roi(width / 2, height / 2, min(height, width)), size_px)


def read_pictures(folder: Path) -> AlignedPictures:
    """The pictures in `folder`; CorpusError where there is none, or two of one frame."""
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := PICTURE_NAME.match(path.name):
            number = int(match[1])
            if number in files:
                raise CorpusError(f"{folder.name} holds {files[number].name} and {path.name}: expected one a frame.")
            files[number] = path
    if not files or min(files) < 1:
        raise CorpusError(f"{folder.name} is no folder of pictures: expected 00001.jpg for the first frame, and so on.")
    return AlignedPictures(files)


def named_rate_hz(clip_id: str) -> float | None:
    """Frames a second as a clip's name tells them; None where it does not."""
    match = NAMED_RATE.match(clip_id)
    return float(match[1]) if match and float(match[1]) > 0 else None


def picture_rate_hz(clip: Clip) -> float:
    """Frames a second of a clip that has pictures and no video."""
    return named_rate_hz(clip.id) or USUAL_RATE_HZ


def clip_frame_times(clip: Clip, limits: MediaLimits) -> NDArray[np.float64]:
    """When each frame of the clip is shown, (n,) in seconds.

    The video's own times where there is a video. Else the frames of aligned pictures, at the rate in the clip's name or
    30 a second, as many as the largest number or the labels say: the face may be lost before the recording ends.
    """
    if clip.video is not None:
        with clip.video.open("rb") as file:
            return np.asarray(frame_times(file, limits), np.float64)
    if clip.pictures is None:
        raise CorpusError(f"clip {clip.id} has no video and no pictures")
    count = max(read_pictures(clip.pictures).last, 0 if clip.labels is None else len(clip.labels))
    return np.arange(count) / picture_rate_hz(clip)


def aligned_faces(
    pictures: AlignedPictures,
    times_s: NDArray[np.float64],
    windows: list[Window],
    spec: FaceSpec,
    window_s: float,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The faces of each window, uint8 (W, frames, size, size, 3), and where one was observed, bool (W,).

    `times_s` are those of the clip's frames. A window is observed when at least `spec.min_coverage` of the frames that
    are sampled in it have a picture; the others take the nearest one in time.
    """
    faces = np.zeros((len(windows), spec.frames, spec.size_px, spec.size_px, 3), np.uint8)
    observed = np.zeros(len(windows), np.bool_)
    crops: dict[int, Picture] = {}
    for w, window in enumerate(windows):
        wanted = sampled_times(window, spec.frames, window_s) + TOLERANCE_S
        numbers = np.maximum(np.searchsorted(times_s, wanted, side="right"), 1)  # of the frame shown then, from 1
        there = np.array([number in pictures.files for number in numbers.tolist()])
        if len(set(numbers[there])) < spec.min_coverage * len(set(numbers)):
            continue
        # windows overlap: what the one before has read is kept, and no more, since recordings are long
        shown = numbers[there].tolist()
        crops = {n: crops[n] if n in crops else pictures.read(n, spec.size_px) for n in shown}
        places, observed[w] = np.flatnonzero(there), True
        for i in range(spec.frames):
            faces[w, i] = crops[shown[int(np.abs(places - i).argmin())]]
    return faces, observed
