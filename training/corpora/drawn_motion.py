"""How a drawn head moves without meaning anything: pose, light, blinks and idle expressions."""

from typing import Final

import numpy as np

from training.corpora.drawn_face import ActionUnits, Light, Pose
from training.corpora.drawn_head import rgb
from training.corpora.traces import Trace, random_episodes, smooth_noise

VIDEO_HZ: Final = 25
FACE_SHARE: Final = (0.24, 0.29)
"""Half the face's height over the picture's height."""


def draw_pose(rng: np.random.Generator, frames: int, size_px: int, restlessness: float) -> Pose:
    """Place and motion of a head over `frames` at 25 a second; `restlessness` scales all motion."""

    def wander(sd: float, correlation_s: float = 0.8) -> Trace:
        return np.float32(sd * restlessness) * smooth_noise(rng, frames, VIDEO_HZ, correlation_s)

    unit_px = size_px * rng.uniform(*FACE_SHARE)
    x_px, y_px = size_px * rng.uniform(0.45, 0.55), size_px * rng.uniform(0.49, 0.55)
    return Pose(
        x_px=x_px + wander(0.05 * unit_px),
        y_px=y_px + wander(0.035 * unit_px),
        unit_px=unit_px * (1 + wander(0.015)),
        roll=np.clip(rng.normal(0, 0.03) + wander(0.03), -0.25, 0.25).astype(np.float32),
        yaw=np.clip(rng.normal(0, 0.08) + wander(0.06), -0.35, 0.35).astype(np.float32),
        pitch=np.clip(rng.normal(0, 0.03) + wander(0.03), -0.15, 0.15).astype(np.float32),
        gaze=np.clip(wander(0.012, 0.3), -0.045, 0.045).astype(np.float32),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """One lamp: brightness, side, warmth."""
    warmth = rng.uniform(-0.06, 0.06)
    return Light(
        gain=rng.uniform(0.82, 1.12),
        slope_x=rng.uniform(-0.25, 0.25),
        slope_y=rng.uniform(-0.15, 0.08),
        colour=rgb((1 + warmth, 1, 1 - warmth)),
    )


def blinks(rng: np.random.Generator, time_s: Trace) -> Trace:
    """Spontaneous blinks, 15 a minute, each full."""
    return np.minimum(3 * random_episodes(rng, time_s, 15, (0.2, 0.35)), 1)


def idle_expressions(rng: np.random.Generator, time_s: Trace, per_minute: float) -> ActionUnits:
    """Blinks, smiles, brow flashes, frowns, squints and mouth movements that mean nothing here."""
    smile = random_episodes(rng, time_s, per_minute, (1.5, 3.5))
    flash = random_episodes(rng, time_s, per_minute, (0.6, 1.5))
    mouth = random_episodes(rng, time_s, 2 * per_minute, (0.4, 1.2))
    rest = np.zeros_like(time_s)
    return ActionUnits(
        inner_brow_raised_1=0.6 * flash,
        outer_brow_raised_2=0.7 * flash,
        brow_lowered_4=0.6 * random_episodes(rng, time_s, per_minute, (1.0, 3.0)),
        upper_lid_raised_5=0.3 * flash,
        cheek_raised_6=0.5 * smile,
        lid_tightened_7=0.6 * random_episodes(rng, time_s, per_minute, (0.8, 2.5)),
        nose_wrinkled_9=rest,
        upper_lip_raised_10=rest,
        lip_corner_pulled_12=0.7 * smile,
        lip_corner_lowered_15=0.4 * random_episodes(rng, time_s, 0.5 * per_minute, (1.0, 2.5)),
        lips_parted_25=np.maximum(0.7 * mouth, 0.4 * smile),
        jaw_dropped_26=0.3 * mouth,
        eyes_closed_43=blinks(rng, time_s),
    )


def together(*layers: ActionUnits) -> ActionUnits:
    """Add expressions, each unit at most 1."""
    return ActionUnits(*(np.clip(sum(units), 0, 1).astype(np.float32) for units in zip(*layers, strict=True)))
