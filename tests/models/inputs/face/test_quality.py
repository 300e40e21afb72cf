"""Head pose against turned heads, blur against pictures whose value can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.inputs.face.quality import CHIN, FOREHEAD, LEFT_CHEEK, LEFT_EYE, RIGHT_CHEEK, RIGHT_EYE, blur, head_pose


def turned_head(yaw=0.0, pitch=0.0, roll=0.0):
    """A frontal head, turned by matrices: x to the right, y down, z away from the camera; angles in degrees."""
    points = np.zeros((468, 3))
    points[[LEFT_EYE, RIGHT_EYE]] = [[-30, -20, 0], [30, -20, 0]]
    points[[LEFT_CHEEK, RIGHT_CHEEK]] = [[-60, 0, 40], [60, 0, 40]]
    points[[FOREHEAD, CHIN]] = [[0, -80, 0], [0, 80, 0]]
    a, b, c = np.radians([yaw, pitch, roll])
    # The nose starts out as (0, 0, -1): yaw carries it to +x, pitch to -y, roll turns +x towards +y.
    yaw_matrix = [[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]]
    pitch_matrix = [[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]]
    roll_matrix = [[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]]
    return (points @ (np.array(roll_matrix) @ yaw_matrix @ pitch_matrix).T + 200).astype(np.float32)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-45, 0, 0), (0, 20, 0), (0, -35, 0), (0, 0, 50), (20, 0, -30)]
)
def test_a_turned_head_is_measured(angles):
    assert head_pose(turned_head(*angles)) == pytest.approx(angles, abs=0.01)


def test_a_nose_carried_to_the_right_is_positive_yaw_and_one_carried_up_positive_pitch():
    nose = np.array([0, 0, -1.0])
    a = math.radians(30)

    to_the_right = np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]]) @ nose
    up = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]]) @ nose

    assert to_the_right[0] > 0
    assert up[1] < 0
    assert head_pose(turned_head(yaw=30)).yaw_deg > 0
    assert head_pose(turned_head(pitch=30)).pitch_deg > 0


def grey(rows):
    return np.repeat(np.asarray(rows, np.uint8)[..., None], 3, axis=2)


def test_a_hard_edge_is_as_sharp_as_can_be():
    edge = np.tile(np.where(np.arange(64) < 32, 0, 200), (64, 1))
    both = np.where(edge ^ edge.T, 200, 0)  # an edge along each axis, so that neither is without any change

    # The mean over 9 pixels leaves a ninth of the step at its place: 1 - (1 - 1/9).
    assert blur(grey(both)) == pytest.approx(1 / 9, abs=1e-3)


def test_a_slope_has_nothing_to_blur():
    rows, columns = np.mgrid[0:64, 0:64]

    assert blur(grey(rows + columns)) > 0.9


def test_a_picture_of_one_colour_counts_as_blurred():
    assert blur(grey(np.full((32, 32), 9))) == 1.0


def test_smoothing_a_picture_raises_its_blur_every_time():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(float)
    values = []
    for _ in range(4):
        values.append(blur(grey(picture)))
        padded = np.pad(picture, 1, mode="edge")
        picture = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] + padded[1:-1, 1:-1]) / 5
    assert values == sorted(values)
    assert 0 <= values[0] < values[-1] <= 1


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)), elements=st.integers(0, 255))
)
def test_blur_lies_between_0_and_1_for_any_picture(picture):
    assert 0 <= blur(picture) <= 1
