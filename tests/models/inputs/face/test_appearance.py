"""Looks are compared by what a face shows, not by how it is lit or how large the picture is."""

import numpy as np
import pytest

from models.inputs.face.appearance import describe, likeness, likeness_of_parts, refreshed
from models.inputs.face.geometry import Roi, crop


@pytest.fixture
def faces():
    """Two pictures of soft blots, as different as chance makes them."""
    blots = np.random.default_rng(3).integers(40, 200, (2, 16, 16, 3), dtype=np.uint8)
    return [crop(one, Roi(8, 8, 16), 112) for one in blots]


def test_the_parts_have_the_promised_shapes_and_lengths(faces):
    whole, regions = describe(faces[0])

    assert (whole.shape, whole.dtype) == ((2816,), np.float32)
    assert (regions.shape, regions.dtype) == ((16, 176), np.float32)
    assert np.linalg.norm(whole) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(regions, axis=1) == pytest.approx(np.ones(16), abs=1e-5)


def test_a_face_is_entirely_like_itself_and_not_like_another(faces):
    one, other = map(describe, faces)

    assert (likeness(one, one), likeness_of_parts(one, one)) == pytest.approx((1, 1), abs=1e-5)
    assert likeness(one, other) == pytest.approx(likeness(other, one))
    assert likeness(one, other) < 0.7


@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: rgb * 0.7,
        lambda rgb: rgb * 1.15 + 8,
        lambda rgb: crop(rgb, Roi(56, 56, 112), 64),
        lambda rgb: crop(rgb, Roi(56, 56, 112), 300),
    ],
    ids=["darker", "brighter", "smaller", "larger"],
)
def test_light_and_size_do_not_count(faces, change):
    changed = np.clip(change(faces[0]), 0, 255).astype(np.uint8)

    assert likeness(describe(faces[0]), describe(changed)) > 0.9


def test_what_is_behind_the_head_does_not_count(faces):
    y, x = np.indices((112, 112)) / 56 - 1
    elsewhere = np.where((np.hypot(x / 0.8, y) > 1)[..., None], faces[1], faces[0])

    assert likeness(describe(faces[0]), describe(elsewhere)) > 0.95


@pytest.mark.parametrize("hidden", [np.s_[:, 60:], np.s_[:, :52], np.s_[66:], np.s_[:50]])
def test_half_a_face_is_known_by_its_other_half(faces, hidden):
    covered = faces[0].copy()
    covered[hidden] = (60, 50, 45)
    one, half, other = describe(faces[0]), describe(covered), describe(faces[1])

    assert likeness_of_parts(one, half) > 0.95
    assert likeness_of_parts(one, half) > likeness_of_parts(one, other) + 0.1


def test_what_was_hidden_is_remembered_as_it_was(faces):
    covered = faces[0].copy()
    covered[:, 56:] = faces[1][:, 56:]
    one, half = describe(faces[0]), describe(covered)

    kept = refreshed(one, half)

    left = [row * 4 + column for row in range(4) for column in (0, 1)]
    right = [row * 4 + column for row in range(4) for column in (2, 3)]
    assert np.array_equal(kept.whole, half.whole)
    assert np.array_equal(kept.regions[left], half.regions[left])
    assert (kept.regions[right] * one.regions[right]).sum(axis=1).mean() > 0.9


def test_a_face_of_one_colour_is_described_too():
    whole, regions = describe(np.full((112, 112, 3), 90, np.uint8))

    assert np.isfinite(whole).all()
    assert np.isfinite(regions).all()
