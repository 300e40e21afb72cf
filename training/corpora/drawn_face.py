"""A drawn face that moves: action units and a pose in, RGB frames out.

Action units follow the Facial Action Coding System (Ekman and Friesen 1978). Arrays of one chunk of frames have the
axes T frames, h rows, w columns; pixels are looked up in face coordinates (see `drawn_head`), and both halves of the
face are drawn at once through |u|.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.corpora.drawn_head import HEAD_X, HEAD_Y, TEXELS, HeadTexture, Identity, Image
from training.corpora.traces import Trace

CHUNK_FRAMES: Final = 8
"""Few enough for the work arrays to stay in the processor's cache."""
DEPTH: Final = 0.7
"""How far the middle of the face moves when the head turns by one radian."""


class ActionUnits(NamedTuple):
    """Intensities (frames,) in [0, 1]."""

    inner_brow_raised_1: Trace
    outer_brow_raised_2: Trace
    brow_lowered_4: Trace
    upper_lid_raised_5: Trace
    cheek_raised_6: Trace
    lid_tightened_7: Trace
    nose_wrinkled_9: Trace
    upper_lip_raised_10: Trace
    lip_corner_pulled_12: Trace
    lip_corner_lowered_15: Trace
    lips_parted_25: Trace
    jaw_dropped_26: Trace
    eyes_closed_43: Trace


class Pose(NamedTuple):
    """Where the head is in the picture, each (frames,)."""

    x_px: Trace
    y_px: Trace
    unit_px: Trace
    """Half the height of the face."""
    roll: Trace
    yaw: Trace
    pitch: Trace
    """Radians."""
    gaze: Trace
    """Sideways, in face coordinates."""


class Light(NamedTuple):
    """One lamp: how bright, how it falls off over the face, its colour."""

    gain: float
    slope_x: float
    slope_y: float
    colour: NDArray[np.float32]


class Patch(NamedTuple):
    """A rectangle of a chunk: what is painted on, and the face coordinates of its pixels."""

    rgb: Image
    """(3, T, h, w), a view."""
    u: Image
    v: Image
    k: Image
    """Pixels per unit (T, 1, 1): edges are one pixel wide."""


def draw_frames(
    who: Identity, texture: HeadTexture, backdrop: Image, light: Light, pose: Pose, units: ActionUnits
) -> Iterator[NDArray[np.uint8]]:
    """Draw every frame: uint8 (size, size, 3) RGB, the size of `backdrop` (3, size, size)."""
    still = np.moveaxis(backdrop, 0, -1).round().astype(np.uint8)
    for start in range(0, len(pose.x_px), CHUNK_FRAMES):
        part = slice(start, start + CHUNK_FRAMES)
        chunk_pose = Pose(*(trace[part, None, None] for trace in pose))
        chunk_units = ActionUnits(*(trace[part, None, None] for trace in units))
        rows, columns = extent(chunk_pose, HEAD_X, HEAD_Y, len(still))
        head = draw_head(who, texture, light, chunk_pose, chunk_units, (rows, columns))
        rgb, behind = head[:3], backdrop[:, None, rows, columns]
        rgb -= behind
        rgb *= head[3]
        rgb += behind
        np.clip(rgb, 0, 255, out=rgb)
        frames = np.repeat(still[None], rgb.shape[1], axis=0)
        np.copyto(np.moveaxis(frames[:, rows, columns], -1, 0), rgb, casting="unsafe")
        yield from frames


def extent(pose: Pose, xs: tuple[float, float], ys: tuple[float, float], size_px: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that hold the face rectangle `xs` by `ys` in every frame of the chunk."""
    x = np.array([[xs[0], xs[1], xs[0], xs[1]]], np.float32) + DEPTH * pose.yaw[:, 0]
    y = np.array([[ys[0], ys[0], ys[1], ys[1]]], np.float32) + DEPTH * pose.pitch[:, 0]
    cos, sin = np.cos(pose.roll[:, 0]), np.sin(pose.roll[:, 0])
    columns = pose.x_px[:, 0] + pose.unit_px[:, 0] * (cos * x - sin * y)
    rows = pose.y_px[:, 0] + pose.unit_px[:, 0] * (sin * x + cos * y)
    low_y, low_x = (max(0, int(np.floor(axis.min())) - 1) for axis in (rows, columns))
    high_y, high_x = (min(size_px, int(np.ceil(axis.max())) + 2) for axis in (rows, columns))
    return slice(low_y, max(low_y, high_y)), slice(low_x, max(low_x, high_x))


def draw_head(
    who: Identity, texture: HeadTexture, light: Light, pose: Pose, units: ActionUnits, area: tuple[slice, slice]
) -> Image:
    """The head over `area` of the picture: (4, T, h, w), lit RGB and opacity 0..1."""
    rows, columns = area
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - pose.x_px) / pose.unit_px  # (T, 1, w)
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - pose.y_px) / pose.unit_px  # (T, h, 1)
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    x, y = cos * dx + sin * dy, cos * dy - sin * dx  # (T, h, w)
    bulge = np.sqrt(np.maximum(1 - (x / who.width) ** 2 - (y / 1.05) ** 2, 0))
    u, v = x - DEPTH * pose.yaw * bulge, y - DEPTH * pose.pitch * bulge
    layers = look_up(texture, u, v - 0.17 * units.jaw_dropped_26 * np.clip((v - 0.5) / 0.5, 0, 1))
    skin = layers[:3]

    def patch(xs: tuple[float, float], ys: tuple[float, float]) -> Patch:
        r, c = extent(pose, xs, ys, 1 << 15)
        r, c = slice(r.start - rows.start, r.stop - rows.start), slice(c.start - columns.start, c.stop - columns.start)
        return Patch(skin[:, :, r, c], u[:, r, c], v[:, r, c], pose.unit_px)

    draw_brows(patch((-0.62, 0.62), (who.brow_y - 0.34, who.brow_y + 0.22)), who, units)
    draw_eyes(patch((-0.66, 0.66), (who.eye_y - 0.22, who.eye_y + 0.26)), who, units, pose.gaze)
    draw_nose(patch((-0.3, 0.3), (who.eye_y - 0.12, who.nose_y + 0.1)), who, units)
    draw_folds(patch((-0.62, 0.62), (0.08, 0.85)), who, units)
    draw_mouth(patch((-0.5, 0.5), (who.mouth_y - 0.25, who.mouth_y + 0.45)), who, units)
    lit = light.gain * (1 + light.slope_x * x + light.slope_y * y)
    for channel in range(3):
        skin[channel] *= lit * light.colour[channel]
    return layers


def look_up(texture: HeadTexture, u: Image, v: Image) -> Image:
    """The nearest texels at (u, v): (4, T, h, w), RGB 0..255 and opacity 0..1."""
    column = np.clip((u - HEAD_X[0]) * TEXELS, 0, texture.columns - 1).astype(np.int32)
    row = np.clip((v - HEAD_Y[0]) * TEXELS, 0, texture.rows - 1).astype(np.int32)
    texels = texture.packed[row * texture.columns + column].view(np.uint8).reshape(*u.shape, 4)
    layers: Image = np.moveaxis(texels, -1, 0).astype(np.float32, order="C")
    layers[3] *= np.float32(1 / 255)
    return layers


def paint(patch: Patch, alpha: Image, colour: NDArray[np.float32] | tuple[float, float, float]) -> None:
    """Lay a colour over the patch."""
    for channel in range(3):
        plane = patch.rgb[channel]
        plane += alpha * (np.float32(colour[channel]) - plane)


def shade(patch: Patch, strength: Image) -> None:
    """Darken the skin (lighten where negative), blue more than red, as skin does."""
    for channel, weight in enumerate((0.85, 1.0, 1.05)):
        patch.rgb[channel] *= 1 - np.float32(weight) * strength


def inside(distance: Image, k: Image) -> Image:
    """Opacity from a signed distance in units (positive inside)."""
    return np.clip(0.5 + distance * k, 0, 1)


def line(distance: Image, thickness: Image | float, k: Image) -> Image:
    """Opacity of a line `thickness` to either side."""
    return np.clip((thickness - np.abs(distance)) * k + 0.5, 0, 1)


def draw_brows(p: Patch, who: Identity, units: ActionUnits) -> None:
    """Brows, and the wrinkles that their movement makes: forehead (1, 2), between the brows (4)."""
    lowered, inner, outer = units.brow_lowered_4, units.inner_brow_raised_1, units.outer_brow_raised_2
    side = np.abs(p.u)
    s = (side - (who.eye_x + 0.01 - 0.045 * lowered)) / 0.21  # -1 inner end, 1 outer end
    inward = (1 - s) / 2
    raised = inner * inward + outer * (1 - inward)
    y = who.brow_y + who.brow_slope * s - 0.04 * (1 - s * s) - 0.115 * raised + lowered * (0.085 + 0.06 * inward)
    thickness = who.brow_thickness * np.clip(1.15 - 0.5 * np.abs(s + 0.35), 0, 1)
    hair = line(p.v - y, thickness, p.k) * np.clip(6 * (1.02 - np.abs(s)), 0, 1)
    wave = np.maximum(np.sin((p.v - who.brow_y) * 66 + 2 * side), 0)
    above = np.clip((y - 0.04 - p.v) * 12, 0, 1) * np.clip((p.v - who.brow_y + 0.34) * 12, 0, 1)
    forehead = 0.24 * who.folds * np.maximum(inner, outer) * wave * above * np.clip(4 * (0.46 - side), 0, 1)
    between = np.clip(1 - ((p.v - who.brow_y - 0.04) / 0.13) ** 2, 0, 1)
    frown = 0.42 * who.folds * lowered * line(side - 0.055, 0.012, p.k) * between
    shade(p, forehead + frown)
    paint(p, 0.88 * hair, who.hair * np.float32(0.72))


def draw_eyes(p: Patch, who: Identity, units: ActionUnits, gaze: Image) -> None:
    """Eyes with lids (5, 7, 43), the crease under them and crow's feet (6)."""
    closed, squint, cheek = units.eyes_closed_43, units.lid_tightened_7, units.cheek_raised_6
    side = np.abs(p.u)
    s = (side - who.eye_x) / who.eye_width
    q = np.maximum(1 - s * s, 0)
    low = 0.05 * who.eye_opening * (1 - 0.4 * cheek - 0.5 * squint)
    wide = 1 + 0.6 * units.upper_lid_raised_5 - 0.35 * squint - 0.15 * units.brow_lowered_4 - 0.15 * cheek
    high = 0.088 * who.eye_opening * wide * (1 - closed) - low * closed
    upper, lower = who.eye_y - high * q, who.eye_y + low * q
    corners = inside((1 - np.abs(s)) * who.eye_width, p.k)
    crease = line(p.v - (upper - 0.05 * (1 - 0.6 * units.upper_lid_raised_5)), 0.008, p.k) * corners
    under = line(p.v - (lower + 0.055 - 0.02 * cheek + 0.02 * s), 0.012, p.k) * corners
    tightened = np.maximum(cheek, 0.8 * squint)
    beyond = side - who.eye_x - who.eye_width - 0.02
    feet = np.maximum(np.cos((p.v - who.eye_y - 0.01) / (beyond + 0.12) * 11), 0) * np.clip(
        1 - np.abs(beyond - 0.05) / 0.06, 0, 1
    )
    near = np.clip(1 - np.abs(p.v - who.eye_y) / 0.13, 0, 1)
    shade(p, 0.16 * crease + who.folds * under * (0.06 + 0.3 * tightened) + 0.3 * who.folds * cheek * feet * near)
    opening = inside(np.minimum(p.v - upper, lower - p.v), p.k) * corners
    centre = p.u - np.sign(p.u) * who.eye_x - gaze
    radius = np.hypot(centre, p.v - (who.eye_y - 0.018))
    paint(p, opening, (226, 221, 214))
    paint(p, opening * inside(0.076 - radius, p.k), who.iris)
    paint(p, opening * inside(0.034 - radius, p.k), (12, 10, 10))
    glint = np.hypot(centre + 0.024, p.v - (who.eye_y - 0.045))
    paint(p, opening * inside(0.016 - glint, p.k), (245, 245, 245))
    paint(p, 0.85 * line(p.v - upper, 0.014, p.k) * corners, who.hair * np.float32(0.5))
    paint(p, 0.30 * line(p.v - lower, 0.006, p.k) * corners, who.hair * np.float32(0.6))


def draw_nose(p: Patch, who: Identity, units: ActionUnits) -> None:
    """Nostrils, which rise with the upper lip (9, 10), and the wrinkles over the bridge (9)."""
    wrinkled = units.nose_wrinkled_9
    rise = 0.045 * wrinkled + 0.025 * units.upper_lip_raised_10
    side = np.abs(p.u)
    width = who.nose_width * (1 + 0.15 * wrinkled)
    hole = 1 - np.hypot((side - 0.48 * width) / 0.042, (p.v - (who.nose_y + 0.035 - rise)) / 0.02)
    wing = line(np.hypot(side - 0.6 * width, p.v - (who.nose_y - rise)) - 0.48 * width, 0.012, p.k)
    wing = wing * np.clip((side - 0.75 * width) * 20, 0, 1)
    bridge = np.exp(-((side / 0.11) ** 2) - ((p.v - (who.eye_y + 0.1)) / 0.12) ** 2)
    wrinkles = np.maximum(np.sin((p.v + 0.35 * side) * 72), 0) * bridge
    shade(p, 0.2 * wing * (1 + 0.6 * wrinkled) + 0.45 * who.folds * wrinkled * wrinkles)
    paint(p, 0.75 * inside(0.03 * hole, p.k), who.skin * np.float32(0.3))


def draw_folds(p: Patch, who: Identity, units: ActionUnits) -> None:
    """Folds from nose to mouth (9, 10, 12) and the cheeks that bulge above them (6, 12)."""
    smile, cheek = units.lip_corner_pulled_12, units.cheek_raised_6
    side = np.abs(p.u)
    top, bottom = who.nose_y - 0.02, who.mouth_y + 0.06 - 0.08 * smile
    t = np.clip((p.v - top) / (bottom - top), 0, 1)
    reach = who.mouth_width * (1 + 0.2 * smile) + 0.11
    at = who.nose_width + 0.03 + (reach - who.nose_width - 0.03) * t + (0.05 + 0.07 * smile) * t * (1 - t) * 4 * 0.6
    depth = 0.07 + 0.34 * np.maximum(smile, 0.9 * np.maximum(units.upper_lip_raised_10, units.nose_wrinkled_9))
    fold = np.clip(1 - np.abs(side - at) / 0.035, 0, 1) * np.clip(8 * t, 0, 1) * np.clip(5 * (1 - t), 0, 1)
    bulge = np.maximum(cheek, 0.7 * smile)
    apple = np.exp(-(((side - 0.4) / 0.14) ** 2) - ((p.v - (0.24 - 0.07 * bulge)) / 0.11) ** 2)
    below = np.exp(-(((side - 0.42) / 0.15) ** 2) - ((p.v - (0.42 - 0.05 * bulge)) / 0.06) ** 2)
    shade(p, who.folds * depth * fold + bulge * (0.13 * below - 0.16 * apple))


def draw_mouth(p: Patch, who: Identity, units: ActionUnits) -> None:
    """Lips, opening and teeth (10, 12, 15, 25, 26)."""
    smile, sad, jaw = units.lip_corner_pulled_12, units.lip_corner_lowered_15, units.jaw_dropped_26
    parted, raised = units.lips_parted_25, units.upper_lip_raised_10
    width = who.mouth_width * (1 + 0.26 * smile - 0.14 * jaw + 0.05 * sad)
    s = p.u / width
    q = np.maximum(1 - s * s, 0)
    root = np.sqrt(q)
    middle = who.mouth_y + 0.05 * smile - 0.03 * raised + (0.105 * sad - 0.15 * smile) * s * s
    upper = middle - q * (0.03 * parted + 0.055 * raised + 0.01 * jaw)
    lower = middle + q * (0.055 * parted + 0.26 * jaw + 0.02 * raised)
    thin = who.lip_thickness * (1 - 0.3 * smile)
    top = upper - root * thin * (0.85 - 0.25 * raised - 0.12 * np.exp(-((s / 0.16) ** 2)))
    bottom = lower + root * thin * 1.15
    ends = inside((1 - np.abs(s)) * width, p.k)
    paint(p, 0.9 * ends * inside(np.minimum(p.v - top, bottom - p.v), p.k), who.lips)
    gap = ends * inside(np.minimum(p.v - upper, lower - p.v) + 0.003, p.k)
    paint(p, gap, (62, 22, 24))
    teeth = np.minimum(p.v - upper, np.minimum(upper + 0.075, lower - 0.012) - p.v)
    paint(p, 0.92 * gap * inside(teeth, p.k) * np.clip(5 * (0.86 - np.abs(s)), 0, 1), (232, 226, 214))
    corner = np.hypot(np.abs(p.u) - width, p.v - (middle + 0.005))
    shade(p, (0.16 + 0.2 * np.maximum(smile, sad)) * np.clip(1 - corner / 0.055, 0, 1))
