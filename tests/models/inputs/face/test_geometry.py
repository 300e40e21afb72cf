"""Squares, crops and boxes: expected values come from slicing, rotating and averaging by other means."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.inputs.face.geometry import Box, Roi, area_average, bounding_box, crop, overlap, square_around, to_picture


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_a_square_of_whole_pixels_is_a_slice(noise):
    assert np.array_equal(crop(noise, Roi(30, 20, 16), 16), noise[12:28, 22:38])


def test_a_square_turned_by_a_right_angle_is_the_turned_slice(noise):
    shown = crop(noise, Roi(30, 20, 16, math.pi / 2), 16)

    assert np.abs(shown.astype(int) - np.rot90(noise[12:28, 22:38], k=1)).max() <= 1


def test_a_turned_square_reads_a_slope_exactly():
    rows, columns = np.mgrid[0:200, 0:200] + 0.5
    slope = np.stack([columns, rows, (rows + columns) / 2], axis=-1).astype(np.uint8)  # a pixel tells where it lies
    roi = Roi(100, 90, 80, 0.4)

    shown = crop(slope, roi, 40).astype(float)

    steps = (np.arange(40) + 0.5) / 40
    x, y = np.meshgrid(steps, steps)
    expected = to_picture(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32), roi).reshape(40, 40, 2)
    assert np.abs(shown[..., :2] - expected).max() <= 1.5  # truncated to uint8 twice


def test_fine_detail_is_averaged_instead_of_aliased():
    checkerboard = np.repeat(((np.indices((400, 400)).sum(axis=0) % 2) * 255)[..., None], 3, axis=2).astype(np.uint8)

    shown = crop(checkerboard, Roi(200, 200, 400, 0.0), 50)

    assert np.abs(shown.astype(float) - 127.5).max() <= 1


def test_the_edge_goes_on_outside_the_picture(noise):
    shown = crop(noise, Roi(0, 30, 20), 20)

    assert np.array_equal(shown[:, :10], np.repeat(noise[20:40, :1], 10, axis=1))
    assert np.array_equal(shown[:, 10:], noise[20:40, :10])


@pytest.mark.parametrize("roi", [Roi(500, 500, 10), Roi(-90, 3, 10, 0.3), Roi(0.5, 0.5, 3000, 1.0), Roi(1, 1, 1e-3)])
@pytest.mark.parametrize("shape", [(1, 1), (9, 16), (7, 1)])
def test_any_square_on_any_picture_gives_a_crop(roi, shape):
    shown = crop(np.full((*shape, 3), 77, np.uint8), roi, 24)

    assert shown.shape == (24, 24, 3)
    assert (shown == 77).all()


@pytest.mark.parametrize("block", [2, 3, 7, 256])
def test_blocks_are_averaged_even_when_all_pixels_are_white(block):
    assert (area_average(np.full((600, 520, 3), 255, np.uint8), block) == 255).all()


def test_incomplete_blocks_are_filled_from_the_edge(noise):
    means = area_average(noise, 7)

    assert means.shape == (9, 12, 3)
    assert means[1, 2] == pytest.approx(noise[7:14, 14:21].mean(axis=(0, 1)), abs=1e-3)
    last = np.concatenate([noise[56:, 77:], np.repeat(noise[56:, 79:], 4, axis=1)], axis=1)
    last = np.concatenate([last, np.repeat(last[-1:], 3, axis=0)])
    assert means[8, 11] == pytest.approx(last.mean(axis=(0, 1)), abs=1e-3)


def test_overlap_is_intersection_over_union():
    assert overlap(Box(0, 0, 2, 2), Box(1, 0, 2, 2)) == pytest.approx(2 / 6)
    assert overlap(Box(0, 0, 2, 2), Box(2, 0, 2, 2)) == 0
    assert overlap(Box(5, 5, 1, 1), Box(5, 5, 1, 1)) == 1


@given(
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    size=st.floats(10, 1000),
    angle=st.floats(-math.pi, math.pi),
    margin=st.floats(1, 2),
)
def test_the_square_around_points_is_the_one_they_were_spread_in(x, y, size, angle, margin):
    roi = Roi(x, y, size, angle)
    spread = np.array([[0.0, 0.2], [1.0, 0.8], [0.5, 0.5], [0.3, 0.6]], np.float32)  # as wide as the square

    found = square_around(to_picture(spread, roi), angle, margin)

    assert (found.center_x, found.center_y) == pytest.approx((x, y), abs=2e-3 * size)
    assert found.size == pytest.approx(margin * size, rel=2e-3)


def test_depth_grows_with_the_square():
    assert to_picture(np.array([[0.5, 0.5, 0.1]], np.float32), Roi(10, 20, 50)).tolist() == [[10, 20, 5]]


def test_the_bounding_box_ignores_depth():
    points = np.array([[1, 5, 99], [4, 3, -99]], np.float32)

    assert bounding_box(points) == Box(1, 3, 3, 2)
