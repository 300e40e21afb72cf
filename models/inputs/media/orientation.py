"""From a decoded frame to the picture as it is displayed: RGB, square pixels, turned and mirrored as the file says."""

from typing import NamedTuple, cast

import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from models.inputs.media.aspect import square_size
from models.inputs.media.dynamic_range import standard


class Orientation(NamedTuple):
    """How stored pixels are displayed: first the axes are swapped, then each may be reversed."""

    swapped: bool = False
    reversed_x: bool = False
    reversed_y: bool = False

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The displayed picture, contiguous: (H, W, 3), or (W, H, 3) where the axes are swapped."""
        if self.swapped:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if self.reversed_y else 1, :: -1 if self.reversed_x else 1])


class Displayed(NamedTuple):
    """A picture in square pixels, uint8 (H, W, 3), and how it was stretched to become so."""

    rgb: NDArray[np.uint8]
    stretch: tuple[float, float]
    """Width and height over those before."""


def displayed(frame: VideoFrame, reformatter: VideoReformatter, aspect: float) -> Displayed:
    """The frame in displayed orientation; `aspect` is its pixels' width over height. Raises av.FFmpegError."""
    orientation = frame_orientation(frame)
    width, height = square_size(frame.width, frame.height, aspect)
    stretch = width / frame.width, height / frame.height
    rgb = orientation.apply(stored_rgb(frame, reformatter, width, height))
    return Displayed(rgb, stretch[::-1] if orientation.swapped else stretch)


def stored_rgb(
    frame: VideoFrame, reformatter: VideoReformatter, width: int | None = None, height: int | None = None
) -> NDArray[np.uint8]:
    """The frame as uint8 (H, W, 3), as it was stored, or scaled to that size; BT.709, without alpha.

    Raises av.FFmpegError.
    """
    # left to itself the scaler starts a thread for every core
    rgb = reformatter.reformat(frame, width, height, format="rgb24", threads=1).to_ndarray()
    return standard(rgb.astype(np.uint8, copy=False), frame)


def frame_orientation(frame: VideoFrame) -> Orientation:
    """The frame's display matrix, rounded to quarter turns and mirror images."""
    try:
        # `frame.side_data` would keep the frame, and its memory, until the garbage collector comes by
        data = cast(Buffer | None, SideDataContainer(frame).get("DISPLAYMATRIX"))  # type: ignore[call-arg]
    except ValueError:  # beside it lies side data of a kind that PyAV cannot name; the turn is still known
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if data is None:
        return Orientation()
    return matrix_orientation(*np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]].tolist())


def matrix_orientation(a: int, b: int, c: int, d: int) -> Orientation:
    """The linear part of a display matrix (ISO 14496-12, 6.2.2): x' = a x + c y, y' = b x + d y."""
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


# counter-clockwise, as in VideoFrame.rotation
_QUARTER_TURNS = (
    Orientation(),
    Orientation(swapped=True, reversed_y=True),
    Orientation(reversed_x=True, reversed_y=True),
    Orientation(swapped=True, reversed_x=True),
)
