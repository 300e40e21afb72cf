from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from training.corpora.drawn_face import CHUNK_FRAMES, ActionUnits, Light, Pose, draw_frames
from training.corpora.drawn_head import draw_identity, head_texture, rgb, scene

SIZE_PX, UNIT_PX, X_PX, Y_PX = 160, 43.0, 80.0, 84.0
Drawing = Callable[..., NDArray[np.int16]]


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    """Frames of one person with the given action units and pose, a value a frame; all else at rest."""
    rng = np.random.default_rng(4)
    who = draw_identity(rng, female=True, age=40)
    texture, backdrop = head_texture(who), scene(rng, who, SIZE_PX, (X_PX, Y_PX), UNIT_PX)

    def draw(units: dict[str, list[float]], pose: dict[str, list[float]] | None = None) -> NDArray[np.int16]:
        given = {**units, **(pose or {})}
        frames = len(next(iter(given.values())))
        rest = {"x_px": X_PX, "y_px": Y_PX, "unit_px": UNIT_PX}
        traces = {
            name: np.full(frames, rest.get(name, 0.0), np.float32) for name in (*ActionUnits._fields, *Pose._fields)
        }
        traces |= {name: np.array(values, np.float32) for name, values in given.items()}
        light = Light(1.0, 0.1, -0.05, rgb((1, 1, 1)))
        moved = Pose(*(traces[name] for name in Pose._fields))
        shown = ActionUnits(*(traces[name] for name in ActionUnits._fields))
        return np.stack(list(draw_frames(who, texture, backdrop, light, moved, shown))).astype(np.int16)

    return draw


@pytest.mark.parametrize("unit", ActionUnits._fields)
def test_every_action_unit_changes_the_face_more_as_it_grows(drawing: Drawing, unit: str) -> None:
    rest, half, full = drawing({unit: [0.0, 0.5, 1.0]})

    change_half, change_full = np.abs(half - rest).sum(), np.abs(full - rest).sum()

    assert change_full > change_half > 1500  # of 0..255 over three channels: some tens of pixels clearly changed


@pytest.mark.parametrize(
    ("unit", "upper_half"), [("brow_lowered_4", True), ("eyes_closed_43", True), ("lip_corner_pulled_12", False)]
)
def test_an_action_unit_acts_in_its_half_of_the_face(drawing: Drawing, unit: str, upper_half: bool) -> None:
    rest, full = drawing({unit: [0.0, 1.0]})

    change = np.abs(full - rest).sum(axis=(1, 2))
    middle = round(Y_PX + 0.1 * UNIT_PX)

    assert (change[:middle].sum() > 9 * change[middle:].sum()) == upper_half
    assert (change[middle:].sum() > 9 * change[:middle].sum()) != upper_half


def test_a_frame_does_not_depend_on_its_neighbours(drawing: Drawing) -> None:
    course = np.linspace(0, 1, CHUNK_FRAMES + 3).tolist()

    together = drawing({"jaw_dropped_26": course})
    alone = np.concatenate([drawing({"jaw_dropped_26": [value]}) for value in course])

    np.testing.assert_array_equal(together, alone)


def test_a_head_half_outside_the_picture_is_cut_there(drawing: Drawing) -> None:
    left, right = drawing({}, {"x_px": [0.0, float(SIZE_PX)]})

    assert left.shape == right.shape == (SIZE_PX, SIZE_PX, 3)
    assert np.abs(left[:, -20:] - right[:, :20]).max() > 0
    assert np.abs(left - right)[40:120, :30].mean() > 5


def test_the_head_moves_with_its_pose(drawing: Drawing) -> None:
    here, there = drawing({}, {"x_px": [X_PX, X_PX + 10]})

    face = here[60:110, 60:100]
    np.testing.assert_allclose(there[60:110, 70:110], face, atol=1)
