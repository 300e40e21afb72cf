"""What stays the same in a drawn recording: the person's head without expression, and the scene behind it.

Face coordinates: x to the right, y downwards, origin between eyes and mouth; the chin is at y = 1, the hairline near
-0.8. The head is a texture in these coordinates, which `drawn_face` moves over the scene.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.corpora.traces import smooth_noise_image

Image = NDArray[Any]
"""float32 throughout; the stubs lose sight of it in arithmetic."""

TEXELS: Final = 110
"""Texels for one unit of face coordinates: more than twice what a picture shows, so that nearest look-up is smooth."""
HEAD_X: Final = (-1.12, 1.12)
HEAD_Y: Final = (-1.5, 1.3)

SKIN_TONES: Final = ((240, 204, 178), (228, 184, 150), (207, 156, 117), (176, 124, 87), (138, 92, 63), (98, 64, 46))
HAIR_COLOURS: Final = ((30, 24, 22), (62, 42, 30), (104, 72, 44), (168, 130, 80), (128, 58, 34))
GREY_HAIR: Final = (126, 124, 122)
IRIS_COLOURS: Final = ((70, 45, 30), (95, 70, 40), (80, 110, 130), (85, 110, 75))


@dataclass(frozen=True)
class Identity:
    """Proportions (in face coordinates) and colours (0..255) of one person."""

    seed: int
    skin: Image
    hair: Image
    iris: Image
    lips: Image
    width: float
    jaw: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_opening: float
    brow_y: float
    brow_slope: float
    brow_thickness: float
    nose_width: float
    nose_y: float
    mouth_y: float
    mouth_width: float
    lip_thickness: float
    hair_length: float
    hairline: float
    beard: float
    folds: float
    """How deep the face's folds become (age)."""


def draw_identity(rng: np.random.Generator, *, female: bool, age: int) -> Identity:
    """One person; sex and age shift hair, beard, jaw, lips and folds, and nothing else in the corpus."""
    tone = int(rng.integers(len(SKIN_TONES)))
    skin = rgb(SKIN_TONES[tone]) * np.float32(rng.uniform(0.95, 1.04))
    grey = age > 50 and rng.random() < 0.6
    colour = int(rng.integers(len(HAIR_COLOURS) if tone < 3 else 2))
    red = rgb((1.0, 0.72, 0.72) if female else (0.97, 0.76, 0.74))
    return Identity(
        seed=int(rng.integers(2**31)),
        skin=skin,
        hair=rgb(GREY_HAIR if grey else HAIR_COLOURS[colour]),
        iris=rgb(IRIS_COLOURS[rng.integers(len(IRIS_COLOURS))]),
        lips=skin * red * np.float32(rng.uniform(0.88, 1.0)),
        width=rng.uniform(0.70, 0.80),
        jaw=rng.uniform(0.10, 0.24) if not female else rng.uniform(0.18, 0.30),
        eye_x=rng.uniform(0.29, 0.35),
        eye_y=rng.uniform(-0.20, -0.13),
        eye_width=rng.uniform(0.145, 0.18),
        eye_opening=rng.uniform(0.85, 1.15),
        brow_y=rng.uniform(-0.44, -0.38),
        brow_slope=rng.uniform(-0.03, 0.03),
        brow_thickness=rng.uniform(0.022, 0.034) if female else rng.uniform(0.03, 0.048),
        nose_width=rng.uniform(0.12, 0.17),
        nose_y=rng.uniform(0.22, 0.29),
        mouth_y=rng.uniform(0.54, 0.60),
        mouth_width=rng.uniform(0.25, 0.31),
        lip_thickness=rng.uniform(0.05, 0.075) if female else rng.uniform(0.035, 0.06),
        hair_length=rng.uniform(0.3, 1.2) if female else rng.uniform(-0.75, -0.1),
        hairline=rng.uniform(-0.78, -0.62) if female or age < 45 else rng.uniform(-0.95, -0.75),
        beard=0.0 if female or rng.random() < 0.6 else rng.uniform(0.25, 0.6),
        folds=0.8 + 0.5 * (age - 20) / 45,
    )


def rgb(colour: tuple[float, float, float]) -> Image:
    """A colour as an array (3,)."""
    return np.array(colour, np.float32)


class HeadTexture(NamedTuple):
    """The head at rest: uint8 (rows, columns, 4), RGB and opacity, in a table for look-up."""

    packed: NDArray[np.uint32]
    """(rows * columns,), one RGBA texel each."""
    rows: int
    columns: int


def soft(distance: Image, width: float = 0.03) -> Image:
    """1 inside (negative distance), 0 outside, with an edge `width` wide."""
    inside: Image = np.clip(0.5 - distance / width, 0, 1)
    return inside


def blob(x: Image, y: Image, cx: float, cy: float, rx: float, ry: float) -> Image:
    """A Gaussian spot of radius (rx, ry)."""
    return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


def face_distance(who: Identity, x: Image, y: Image) -> Image:
    """Signed distance, roughly, to the outline of the face: an ellipse whose lower half narrows to the jaw."""
    width = who.width * (1 - who.jaw * np.clip(y, 0, 1) ** 1.5)
    distance: Image = (np.sqrt((x / width) ** 2 + y**2) - 1) * 0.8
    return distance


def head_texture(who: Identity) -> HeadTexture:
    """Draw hair, ears and the skin with its shading: everything of the head that no action unit moves."""
    columns, rows = (round((high - low) * TEXELS) for low, high in (HEAD_X, HEAD_Y))
    y, x = np.meshgrid(
        np.linspace(*HEAD_Y, rows, dtype=np.float32), np.linspace(*HEAD_X, columns, dtype=np.float32), indexing="ij"
    )
    rng = np.random.default_rng(who.seed)
    strands = smooth_noise_image(rng, (rows, columns), (90, 14))
    blotches = smooth_noise_image(rng, (rows, columns), (14, 14))
    picture = np.empty((rows, columns, 3), np.float32)
    picture[:] = who.hair
    picture *= (1 + 0.13 * strands - 0.25 * np.clip(y + 0.4, 0, 1))[..., None]
    alpha = hair_alpha(who, x, y)
    for side in (-1, 1):
        ear = soft((np.hypot((x - side * who.width) / 0.1, (y + 0.02) / 0.2) - 1) * 0.12)
        paint(picture, ear, who.skin * np.float32(0.86))
        alpha = np.maximum(alpha, ear)
    face = soft(face_distance(who, x, y))
    fringe = who.hairline + 0.06 * strands + 0.22 * (np.abs(x) / who.width) ** 3
    paint(picture, face * soft(fringe - y, 0.06), who.skin * skin_shading(who, x, y, blotches))
    alpha = np.maximum(alpha, face)
    rgba = np.concatenate([np.clip(picture, 0, 255), 255 * alpha[..., None]], axis=2).round().astype(np.uint8)
    return HeadTexture(np.ascontiguousarray(rgba).view(np.uint32).reshape(-1), rows, columns)


def hair_alpha(who: Identity, x: Image, y: Image) -> Image:
    """Where hair is: a cap, and for long hair a curtain beside the face."""
    cap = soft((np.hypot(x / (who.width + 0.13), (y + 0.28) / 0.98) - 1) * 0.9, 0.05) * soft(y, 0.3)
    if who.hair_length < 0:
        return cap * soft(y - who.hair_length, 0.25)
    curtain = soft((np.hypot(x / (who.width + 0.2), (y + 0.1) / (1.1 + 0.2 * who.hair_length)) - 1) * 0.9, 0.06)
    both: Image = np.maximum(cap, curtain * soft(y - who.hair_length, 0.15))
    return both


def skin_shading(who: Identity, x: Image, y: Image, blotches: Image) -> Image:
    """Factors (rows, columns, 3) on the skin's colour: form, cheeks, sockets, nose, beard."""
    form = 1 - 0.28 * np.clip((x / who.width) ** 2 + 0.55 * y**2, 0, 1.2) ** 1.5 + 0.03 * blotches
    for side in (-1, 1):
        form -= 0.16 * blob(x, y, side * who.eye_x, who.eye_y - 0.07, 0.2, 0.13)
        form += 0.07 * blob(x, y, side * 0.38, 0.2, 0.17, 0.16)
        form -= 0.13 * blob(x, y, side * (0.055 + who.nose_width / 2), who.nose_y - 0.08, 0.045, 0.2)
    form += 0.10 * blob(x, y, 0, who.nose_y - 0.22, 0.05, 0.26) + 0.10 * blob(x, y, 0, who.nose_y - 0.04, 0.07, 0.06)
    form -= 0.17 * blob(x, y, 0, who.nose_y + 0.10, who.nose_width * 0.95, 0.045)
    form -= 0.13 * blob(x, y, 0, who.mouth_y + 0.16, 0.2, 0.05)
    form += 0.06 * blob(x, y, 0, 0.86, 0.16, 0.1) + 0.06 * blob(x, y, 0, -0.6, 0.3, 0.15)
    shading = np.repeat(form[..., None], 3, axis=2)
    cheeks = sum(blob(x, y, side * 0.42, 0.26, 0.2, 0.16) for side in (-1, 1))
    shading *= 1 - rgb((0.0, 0.07, 0.06)) * np.asarray(cheeks)[..., None]
    stubble = who.beard * soft(0.36 + 0.1 * np.abs(x) - y + 0.05 * blotches, 0.25) * (1 + 0.3 * blotches)
    shading *= 1 - stubble[..., None] * (1 - np.clip(who.hair / who.skin, 0, 1))
    return shading


def paint(picture: Image, alpha: Image, colour: NDArray[np.float32]) -> None:
    """Lay `colour` (3,) or (rows, columns, 3) over `picture` in place."""
    picture += alpha[..., None] * (colour - picture)


def scene(
    rng: np.random.Generator, who: Identity, size_px: int, centre_px: tuple[float, float], unit_px: float
) -> Image:
    """The background with neck and shoulders below a head at `centre_px`: (3, size, size), 0..255."""
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32)
    wall = rng.uniform(60, 190) + rng.uniform(-25, 25, 3).astype(np.float32)
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    picture = wall * (1 + slope[0] * (x / size_px - 0.5) + slope[1] * (y / size_px - 0.5))[..., None]
    for _ in range(int(rng.integers(0, 3))):  # a shelf, a window, a door
        left, top = rng.uniform(-0.2, 0.9, 2) * size_px
        width, height = rng.uniform(0.15, 0.6, 2) * size_px
        inside = np.maximum(np.abs(x - left) - width / 2, np.abs(y - top) - height / 2)
        paint(picture, soft(inside, 3.0), wall + rng.uniform(-40, 40, 3).astype(np.float32))
    picture *= (1 + 0.06 * smooth_noise_image(rng, (size_px, size_px), (9, 9)))[..., None]
    u, v = (x - centre_px[0]) / unit_px, (y - centre_px[1]) / unit_px
    neck = soft(np.abs(u) - 0.42 - 0.25 * np.clip(v - 1.1, 0, 1) ** 2, 0.04) * soft(0.2 - v, 0.05)
    paint(picture, neck, who.skin * (0.62 + 0.12 * np.clip(v - 0.9, 0, 1))[..., None])
    cloth = rng.uniform(20, 200, 3).astype(np.float32)
    shoulders = soft((np.hypot(u / 1.75, (v - 2.35) / 1.0) - 1) * 1.2, 0.05)
    paint(picture, shoulders, cloth * (1 - 0.15 * np.abs(u))[..., None])
    return np.ascontiguousarray(np.moveaxis(np.clip(picture, 0, 255), -1, 0))
