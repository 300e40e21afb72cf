"""What the recordings show: pictures that carry a number, that cannot be turned unnoticed, or of known colours."""

from itertools import pairwise

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

BITS = 6
CORNERS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}


# (a, b, c, d) of the display matrix, x' = a x + c y, y' = b x + d y, y down → corners as displayed
TURNS = {
    "quarter turn clockwise": ((0, 1, -1, 0), "BR WG"),
    "half turn": ((-1, 0, 0, -1), "WB GR"),
    "quarter turn back": ((0, -1, 1, 0), "GW RB"),
    "mirrored left to right": ((-1, 0, 0, 1), "GR WB"),
    "mirrored top to bottom": ((1, 0, 0, -1), "BW RG"),
    "mirrored at the diagonal": ((0, 1, 1, 0), "RB GW"),
    "mirrored at the other diagonal": ((0, -1, -1, 0), "WG BR"),
}


def numbered(number: int, width: int = 96, height: int = 32, *, bits: int = BITS) -> Picture:
    """A number of so many bits in vertical bars."""
    bars = np.array([(number >> bit) & 1 for bit in range(bits)], np.uint8)
    row = bars[np.arange(width) * bits // width] * 255
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_number(rgb: Picture, *, bits: int = BITS) -> int:
    middles = (np.arange(bits) * 2 + 1) * rgb.shape[1] // (2 * bits)
    return int(sum((rgb[:, x].mean() > 128) << bit for bit, x in enumerate(middles)))


def corners(height: int = 48, width: int = 64) -> Picture:
    """Red, green / blue, white: however it is turned, it reads otherwise."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = CORNERS["R"], CORNERS["G"]
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = CORNERS["B"], CORNERS["W"]
    return rgb


def read_corners(rgb: Picture) -> str:
    """`RG BW` where it stands upright."""
    height, width = rgb.shape[:2]
    read = ""
    for y in (height // 8, height - 1 - height // 8):
        for x in (width // 8, width - 1 - width // 8):
            read += min(CORNERS, key=lambda name: np.abs(rgb[y, x].astype(int) - CORNERS[name]).sum())
    return f"{read[:2]} {read[2:]}"


def coded(
    colours: NDArray[np.floating],
    pix_fmt: str,
    *,
    kr: float = 0.299,
    kb: float = 0.114,
    full: bool = False,
    width: int = 64,
    height: int = 48,
) -> VideoFrame:
    """Equal columns of these colours, (n, 3) in 0..1, as luma and colour differences (BT.2100, tables 6 and 9)."""
    frame = VideoFrame(width, height, pix_fmt)
    bits = frame.format.components[0].bits
    red, green, blue = np.asarray(colours, float).T
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    differences = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    span, low, spread = ((1 << bits) - 1, 0, (1 << bits) - 1) if full else (219, 16, 224)
    if not full:
        span, low, spread = (value << (bits - 8) for value in (span, low, spread))
    planes = [low + span * luma, *((1 << (bits - 1)) + spread * difference for difference in differences)]
    for plane, values in zip(frame.planes, planes, strict=False):  # grey has one
        column = np.arange(plane.width) * len(values) // plane.width
        row = np.clip(np.round(values), 0, (1 << bits) - 1)[column].astype(np.uint8 if bits == 8 else np.uint16)
        padded = np.zeros(plane.line_size // row.itemsize, row.dtype)
        padded[: len(row)] = row
        plane.update(np.tile(padded, plane.height).tobytes())
    return frame


def read_columns(rgb: Picture, columns: int) -> NDArray[np.floating]:
    """The mean of the middle third of each of the columns: (n, 3)."""
    edges = np.arange(columns + 1) * rgb.shape[1] // columns
    thirds = [(a + (b - a) // 3, b - (b - a) // 3) for a, b in pairwise(edges)]
    return np.array([rgb[:, a:b].reshape(-1, 3).mean(axis=0) for a, b in thirds])
