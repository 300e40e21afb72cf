"""Squares that may be turned, and the crops that are read through them.

Coordinates are pixels of the displayed picture, x to the right and y downwards; the top left pixel covers (0, 0) to
(1, 1), so its centre is (0.5, 0.5). Angles are clockwise as seen in the picture.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""
Floats = NDArray[np.float32]
Points = NDArray[np.float32]
"""float32 (n, 2 or 3): x, y and, where there is a third, depth on the same scale (away from the camera)."""

HALF: Final = np.float32(0.5)
MAX_BLOCK_PX: Final = 256  # the sum of 256 rows of uint8 still fits uint16


class Box(NamedTuple):
    """An upright rectangle: top left corner, width, height."""

    x: float
    y: float
    w: float
    h: float

    @property
    def area(self) -> float:
        return self.w * self.h


class Roi(NamedTuple):
    """A square of side `size`, turned clockwise by `angle_rad` around its centre."""

    center_x: float
    center_y: float
    size: float
    angle_rad: float = 0.0


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, 0..1."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.area + b.area - width * height)


def bounding_box(points: Points) -> Box:
    """The smallest upright box around the points."""
    (left, top), (right, bottom) = points[:, :2].min(axis=0).tolist(), points[:, :2].max(axis=0).tolist()
    return Box(left, top, right - left, bottom - top)


def square_around(points: Points, angle_rad: float, margin: float) -> Roi:
    """The square of this angle whose middle is that of the points; its side is `margin` times their longer extent."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    extent = bounding_box(points[:, :2] @ np.array([[cos, -sin], [sin, cos]], np.float32))  # turned back upright
    x, y = extent.x + extent.w / 2, extent.y + extent.h / 2
    return Roi(cos * x - sin * y, sin * x + cos * y, margin * max(extent.w, extent.h), angle_rad)


def to_picture(points: Points, roi: Roi) -> Points:
    """Points in units of the square's side (0..1 from its top left corner), as pixels of the picture."""
    cos, sin = math.cos(roi.angle_rad) * roi.size, math.sin(roi.angle_rad) * roi.size
    x, y = points[:, 0] - 0.5, points[:, 1] - 0.5
    columns = [roi.center_x + cos * x - sin * y, roi.center_y + sin * x + cos * y]
    if points.shape[1] == 3:
        columns.append(points[:, 2] * roi.size)
    return np.stack(columns, axis=1).astype(np.float32)


def crop(rgb: Picture, roi: Roi, size_px: int) -> Picture:
    """What the square shows, upright, as uint8 (size_px, size_px, 3).

    Bilinear; where the square is more than twice as large as the result, whole blocks of pixels are averaged first, so
    that no detail is aliased. Beyond the picture's edge its last pixels go on.
    """
    left, top, patch = surroundings(rgb, roi)
    block = min(max(int(roi.size / size_px), 1), MAX_BLOCK_PX)
    pixels = area_average(patch, block) if block > 1 else patch.astype(np.float32)
    steps = ((np.arange(size_px, dtype=np.float32) + HALF) / np.float32(size_px) - HALF) * np.float32(roi.size / block)
    middle_x, middle_y = np.float32((roi.center_x - left) / block - 0.5), np.float32((roi.center_y - top) / block - 0.5)
    if roi.angle_rad == 0:
        return bilinear_grid(pixels, steps + middle_x, steps + middle_y)
    cos, sin = np.float32(math.cos(roi.angle_rad)) * steps, np.float32(math.sin(roi.angle_rad)) * steps
    x = cos[None, :] - sin[:, None] + middle_x  # (size_px, size_px)
    y = sin[None, :] + cos[:, None] + middle_y
    return bilinear(pixels, x, y)


def surroundings(rgb: Picture, roi: Roi) -> tuple[int, int, Picture]:
    """The upright part of the picture that the square can read, with its left and top; at least one pixel."""
    height, width = rgb.shape[:2]
    reach = roi.size / 2 * (abs(math.cos(roi.angle_rad)) + abs(math.sin(roi.angle_rad))) + 1
    left = int(np.clip(math.floor(roi.center_x - reach), 0, width - 1))
    top = int(np.clip(math.floor(roi.center_y - reach), 0, height - 1))
    right = int(np.clip(math.ceil(roi.center_x + reach), left + 1, width))
    bottom = int(np.clip(math.ceil(roi.center_y + reach), top + 1, height))
    return left, top, rgb[top:bottom, left:right]


def area_average(rgb: Picture, block: int) -> Floats:
    """The mean of each block of `block` x `block` pixels; incomplete blocks are filled from the edge."""
    height, width = rgb.shape[:2]
    if height % block or width % block:
        rgb = np.pad(rgb, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    rows, columns = rgb.shape[0] // block, rgb.shape[1] // block
    strips = rgb.reshape(rows, block, -1)
    sums = strips[:, 0].astype(np.uint16)
    for i in range(1, block):  # adding whole slices is many times faster than a reduction over so short an axis
        sums += strips[:, i]
    cells = sums.reshape(rows, columns, block, 3)
    means = cells[:, :, 0].astype(np.float32)
    for i in range(1, block):
        means += cells[:, :, i]
    means /= block * block
    return means


def bilinear(pixels: Floats, x: Floats, y: Floats) -> Picture:
    """Read (H, W, 3) at fractional indices, clamped to it: uint8 with the shape of `x`, and three channels."""
    left, right_weight = whole_and_fraction(x, pixels.shape[1])
    upper, lower_weight = whole_and_fraction(y, pixels.shape[0])
    padded = np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge")  # so that each pixel has a right and a lower one
    stride = padded.shape[1]
    places = upper * stride + left
    result = np.empty((*x.shape, 3), np.uint8)
    # One plane after the other, in place: gathering single numbers is faster than gathering triples.
    for channel, plane in enumerate(padded.transpose(2, 0, 1).reshape(3, -1)):
        above = blend(plane.take(places), plane[1:].take(places), right_weight)
        below = blend(plane[stride:].take(places), plane[stride + 1 :].take(places), right_weight)
        result[..., channel] = blend(above, below, lower_weight) + HALF
    return result


def bilinear_grid(pixels: Floats, x: Floats, y: Floats) -> Picture:
    """`bilinear` at every pair of a column from `x` (w,) and a row from `y` (h,), one axis after the other."""
    left, right_weight = whole_and_fraction(x, pixels.shape[1])
    upper, lower_weight = whole_and_fraction(y, pixels.shape[0])
    right, lower = np.minimum(left + 1, pixels.shape[1] - 1), np.minimum(upper + 1, pixels.shape[0] - 1)
    rows = blend(pixels[upper], pixels[lower], lower_weight[:, None, None])  # (h, W, 3)
    result = blend(rows[:, left], rows[:, right], right_weight[:, None])  # (h, w, 3)
    result += HALF
    return result.astype(np.uint8)


def whole_and_fraction(places: Floats, length: int) -> tuple[NDArray[np.intp], Floats]:
    """Places on an axis, clamped to it, as the index before each and the weight of the index after it."""
    inside = np.clip(places, 0, length - 1)
    index = inside.astype(np.intp)
    inside -= index
    return index, inside


def blend(first: Floats, second: Floats, second_weight: Floats) -> Floats:
    """The weighted mean, written into `first`; `second` is spent too."""
    second -= first
    second *= second_weight
    first += second
    return first
