"""The shape of pixels: they are made square by stretching the picture, since a face is judged by its proportions."""

import math
from typing import Final

from av.video.stream import VideoStream

HARDLY: Final = 0.01
"""A shape nearer to a square than this is what rounding leaves of one."""
LARGEST: Final = 4.0
"""Cameras and discs know 1:2 to 8:3; beyond this, or its inverse, a file says nonsense."""


def pixel_aspect(video: VideoStream) -> float:
    """Width over height of a stored pixel: the container's word, else the codec's; 1 where neither makes sense."""
    said = video.sample_aspect_ratio
    if not said or not 1 / LARGEST <= said <= LARGEST or abs(said - 1) < HARDLY:
        return 1.0
    return float(said)


def square_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Width and height of the picture in square pixels, of the same area or a little less: limits go on holding.

    >>> square_size(720, 576, 64 / 45)
    (858, 482)
    """
    wider = math.sqrt(aspect)
    square = math.floor(width * wider), math.floor(height / wider)
    return square if min(square) > 0 else (width, height)  # what is one pixel thin has no proportions
