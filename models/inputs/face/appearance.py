"""How a face looks, as numbers that can be compared: is this the person who was here a moment ago?

An aligned crop is laid out in 16 x 16 cells within an oval. Of each cell count its brightness, the strength of its
edges in eight directions (Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005) and its
colour. Nothing here was learned: it tells people apart within one recording, in the same light, and recognises nobody
in another one. A tracker keeps it for the time of its request; it is stored and sent nowhere.
"""

from typing import Final, NamedTuple

import numpy as np

from models.inputs.face.geometry import Floats, Picture, Roi, crop

SIZE_PX: Final = 64
CELLS: Final = 16
CELL_PX: Final = SIZE_PX // CELLS
DIRECTIONS: Final = 8
REGIONS: Final = 4
BEST_REGIONS: Final = 4
VISIBLE: Final = 0.5  # cosine of a region with what it was a moment ago
COLOUR_WEIGHT: Final = 0.7
SKIN: Final = np.array([0.36, 0.325], np.float32)
"""Shares of red and green in skin on average: what is left tells people apart, not skin from grey."""
DARK: Final = np.float32(30)  # levels; without it the colour of black is noise
TINY: Final = np.float32(1e-6)

GREY: Final = np.array([0.299, 0.587, 0.114], np.float32)


def oval() -> Floats:
    """Which pixels count, float32 (64, 64, 1), 0 or 1: from the hair to the chin, and little of what is behind."""
    y, x = (np.indices((SIZE_PX, SIZE_PX)) + 0.5) / SIZE_PX - 0.5
    return np.asarray((x / 0.375) ** 2 + (y / 0.48) ** 2 <= 1, np.float32)[..., None]


def cell_means(pixels: Floats) -> Floats:
    """(64, 64, channels) -> (256, channels)."""
    rows = POOL @ pixels.reshape(SIZE_PX, -1)
    means: Floats = np.matmul(POOL, rows.reshape(CELLS, SIZE_PX, -1)).reshape(CELLS * CELLS, -1)
    return means


POOL: Final = np.repeat(np.eye(CELLS, dtype=np.float32), CELL_PX, axis=1) / np.float32(CELL_PX)
OVAL: Final = oval()
SHARE: Final = cell_means(OVAL)
"""float32 (256, 1): how much of each cell lies in the oval."""
CELL_OF_PIXEL: Final = np.add(*np.multiply(np.indices((SIZE_PX, SIZE_PX)) // CELL_PX, [[[CELLS]], [[1]]]))
CELLS_OF_REGION: Final = (
    np.arange(CELLS * CELLS)
    .reshape(REGIONS, CELLS // REGIONS, REGIONS, CELLS // REGIONS)
    .swapaxes(1, 2)
    .reshape(REGIONS * REGIONS, -1)
)


class Appearance(NamedTuple):
    """The looks of one face."""

    whole: Floats
    """float32 (2816,), of length 1."""
    regions: Floats
    """float32 (16, 176), each row of length 1: 4 x 4 regions, each for itself, so that a face is known by what a hand
    or a bar leaves free."""


def describe(aligned: Picture) -> Appearance:
    """The looks of an upright crop around a face, uint8 (size, size, 3), of any size."""
    size = aligned.shape[0]
    rgb = crop(aligned, Roi(size / 2, size / 2, size), SIZE_PX).astype(np.float32)
    means = np.asarray(cell_means(rgb * OVAL) / np.maximum(SHARE, TINY), np.float32)
    colour = np.asarray(means[:, :2] / (means.sum(axis=1, keepdims=True) + DARK) - SKIN, np.float32)
    cells = means @ GREY[:, None], edges(rgb @ GREY), colour, SHARE
    (whole,) = joined(*(part[None] for part in cells))
    return Appearance(whole, joined(*(part[CELLS_OF_REGION] for part in cells)))


def edges(grey: Floats) -> Floats:
    """The gradients of each cell by direction, float32 (256, 8); from dark to light and back are one direction."""
    down, across = np.gradient(grey)
    direction = (np.arctan2(down, across) % np.pi / np.pi * DIRECTIONS).astype(np.intp) % DIRECTIONS
    sums = np.bincount(
        (CELL_OF_PIXEL * DIRECTIONS + direction).ravel(),
        weights=(np.hypot(down, across) * OVAL[..., 0]).ravel(),
        minlength=CELLS * CELLS * DIRECTIONS,
    )
    return np.sqrt(sums).reshape(-1, DIRECTIONS).astype(np.float32)  # the root keeps a few hard edges from ruling


def joined(brightness: Floats, gradients: Floats, colour: Floats, share: Floats) -> Floats:
    """Each group of cells (n, cells, channels) as a row of length 1, in which light and contrast do not count."""
    mean = (brightness * share).sum(axis=1, keepdims=True) / np.maximum(share.sum(axis=1, keepdims=True), TINY)
    pattern = unit((brightness - mean) * np.sqrt(share))
    contours = unit(gradients - gradients.mean(axis=(1, 2), keepdims=True))
    return unit(np.concatenate([pattern, contours, COLOUR_WEIGHT * unit(colour * np.sqrt(share))], axis=1))


def unit(rows: Floats) -> Floats:
    """(n, ...) -> (n, k), each row of length 1; a row of zeros stays one."""
    flat = rows.reshape(len(rows), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), TINY), np.float32)


def likeness(a: Appearance, b: Appearance) -> float:
    """How alike two faces are, -1..1: the mean of the cosine of the two and of that of their most alike parts.

    One person within three seconds measured 0.89 or more, pairs of people 0.54 (median) to 0.81.
    """
    return (float(a.whole @ b.whole) + likeness_of_parts(a, b)) / 2


def likeness_of_parts(a: Appearance, b: Appearance) -> float:
    """The mean cosine of the four most alike of the sixteen regions, -1..1: a face that is half hidden keeps it.

    One person within three seconds measured 0.92 or more, pairs of people 0.71 (median) to 0.90.
    """
    return float(np.sort((a.regions * b.regions).sum(axis=1))[-BEST_REGIONS:].mean())


def refreshed(kept: Appearance, seen: Appearance) -> Appearance:
    """The latest look, but for the regions that something hides in it: those stay as they were."""
    visible = (kept.regions * seen.regions).sum(axis=1, keepdims=True) >= VISIBLE
    return Appearance(seen.whole, np.where(visible, seen.regions, kept.regions))
