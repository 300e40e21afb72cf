"""The generative model of the synthetic valence-arousal corpus: from two smooth traces to face, voice and label.

Valence v(t) and arousal a(t) lie in [-1, 1]. The face shows each of them with much noise of its own, the voice with
little, and only while the person speaks; the annotator sees them late and with a small error.
docs/synthetic-corpora.md has all of it.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.corpora.drawn_face import ActionUnits
from training.corpora.drawn_head import Identity, draw_identity
from training.corpora.drawn_motion import VIDEO_HZ, idle_expressions, together
from training.corpora.traces import Trace, smooth_noise, smoothstep

CONTROL_HZ: Final = 100.0
"""The rate at which the voice is controlled."""

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0)]


class SyntheticAffect(BaseModel):
    """Everything that the synthetic valence-arousal corpus depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: Annotated[int, Field(ge=0)] = 1
    videos: Annotated[int, Field(ge=2)] = 56
    validation_videos: Annotated[int, Field(ge=1)] = 16
    """The last ones; they form the Validation_Set."""
    video_s: Annotated[float, Field(ge=2, le=600)] = 12.0
    picture_px: Annotated[int, Field(ge=96, le=512, multiple_of=2)] = 160
    mood_spread: Level = 0.45
    """Standard deviation over videos of each trace's mean, before tanh."""
    drift_spread: Level = 0.5
    """Standard deviation of each trace around its mean, before tanh."""
    drift_s: Annotated[float, Field(gt=0)] = 2.0
    """Correlation time of the traces."""
    face_noise: Level = 0.5
    """Standard deviation of the slow error (1 s) in what the face shows of each trace."""
    voice_noise: Level = 0.15
    """The same for the voice."""
    expressiveness_spread: Level = 0.3
    """Standard deviation over people of the logarithm of how strongly the face moves."""
    idle_per_minute: Level = 4.0
    speech_share: Share = 0.75
    """Time during which the person speaks."""
    annotator_delay_s: Level = 0.4
    annotator_noise: Level = 0.06
    """Standard deviation of the slow error (1 s) in the label."""
    unlabelled_share: Share = 0.04
    """Frames whose label is -5, in runs of half a second to two."""


class Affect(NamedTuple):
    """All that happens in one video; traces at `CONTROL_HZ`, one value for each 10 ms."""

    identity: Identity
    female: bool
    valence: Trace
    arousal: Trace
    face_valence: Trace
    face_arousal: Trace
    voice_valence: Trace
    voice_arousal: Trace
    speaks: Trace
    """0..1: phrases and pauses."""
    syllables: Trace
    """0..1: how open the mouth is while speaking."""
    expressiveness: float


def draw_affect(settings: SyntheticAffect, index: int) -> Affect:
    """Video number `index`: the same whatever the number of videos."""
    rng = np.random.default_rng([settings.seed, 2, index])
    female, age = bool(rng.random() < 0.5), int(rng.integers(20, 66))
    n = round(settings.video_s * CONTROL_HZ)

    def trace() -> Trace:
        drift = settings.drift_spread * smooth_noise(rng, n, CONTROL_HZ, settings.drift_s / 2)
        return np.asarray(np.tanh(settings.mood_spread * rng.standard_normal() + drift), np.float32)

    def seen(truth: Trace, noise: float) -> Trace:
        return (truth + noise * smooth_noise(rng, n, CONTROL_HZ, 0.5)).clip(-1.2, 1.2).astype(np.float32)

    valence, arousal = trace(), trace()
    voice_arousal = seen(arousal, settings.voice_noise)
    speaks = phrases(rng, n, settings.speech_share)
    return Affect(
        identity=draw_identity(rng, female=female, age=age),
        female=female,
        valence=valence,
        arousal=arousal,
        face_valence=seen(valence, settings.face_noise),
        face_arousal=seen(arousal, settings.face_noise),
        voice_valence=seen(valence, settings.voice_noise),
        voice_arousal=voice_arousal,
        speaks=speaks,
        syllables=speaks * syllable_course(rng, voice_arousal),
        expressiveness=float(rng.lognormal(0, settings.expressiveness_spread)),
    )


def phrases(rng: np.random.Generator, n: int, share: float) -> Trace:
    """Speech in phrases of 1.5 to 4 s with pauses between, about `share` of the time."""
    course = np.zeros(n + 1, np.float32)
    position = -int(rng.uniform(0, 2) * CONTROL_HZ)
    while position < n and share > 0:
        spoken = rng.uniform(1.5, 4.0)
        pause = spoken * (1 - share) / share * rng.uniform(0.5, 1.5)
        end = position + int(spoken * CONTROL_HZ)
        course[max(position, 0) : max(end, 0)] = 1
        position = end + int(pause * CONTROL_HZ)
    kernel = np.hanning(9).astype(np.float32)
    return np.convolve(course[:n], kernel / kernel.sum(), mode="same").astype(np.float32)


def syllable_course(rng: np.random.Generator, arousal: Trace) -> Trace:
    """Opening and closing of the mouth, 3 times a second when calm and 6 when aroused: 0..1."""
    rate_hz = 4.5 + 1.5 * arousal + 0.6 * smooth_noise(rng, len(arousal), CONTROL_HZ, 0.2)
    phase = np.cumsum(np.clip(rate_hz, 2.0, 8.0)) / CONTROL_HZ
    strength = rng.uniform(0.55, 1.0, int(phase[-1]) + 2).astype(np.float32)[phase.astype(int)]
    return np.asarray(strength * np.sin(np.pi * (phase % 1)) ** 0.7, np.float32)


def affect_expression(
    rng: np.random.Generator, settings: SyntheticAffect, affect: Affect, time_s: Trace
) -> ActionUnits:
    """The face at `time_s`: smile against frown, wide against heavy eyes, the speaking mouth, idle expressions."""

    def at(trace: NDArray[np.float32]) -> Trace:
        return np.interp(time_s, np.arange(len(trace)) / CONTROL_HZ, trace).astype(np.float32)

    strength = np.float32(affect.expressiveness)
    valence, arousal = strength * at(affect.face_valence), strength * at(affect.face_arousal)
    pleased, upset = np.maximum(valence, 0), np.maximum(-valence, 0)
    lively, tired = np.maximum(arousal, 0), np.maximum(-arousal, 0)
    speech = at(affect.syllables)
    rest = np.zeros_like(time_s)
    shown = ActionUnits(
        inner_brow_raised_1=0.6 * lively,
        outer_brow_raised_2=0.7 * lively,
        brow_lowered_4=0.75 * upset,
        upper_lid_raised_5=0.9 * lively,
        cheek_raised_6=0.7 * pleased,
        lid_tightened_7=0.3 * upset,
        nose_wrinkled_9=0.25 * upset,
        upper_lip_raised_10=rest,
        lip_corner_pulled_12=0.95 * pleased,
        lip_corner_lowered_15=0.95 * upset,
        lips_parted_25=0.5 * speech + 0.35 * pleased,
        jaw_dropped_26=speech * (0.3 + 0.25 * arousal.clip(-1, 1)) + 0.12 * lively,
        eyes_closed_43=0.55 * smoothstep(tired),
    )
    return together(shown, idle_expressions(rng, time_s, settings.idle_per_minute))


def annotate(rng: np.random.Generator, settings: SyntheticAffect, affect: Affect, frames: int) -> NDArray[np.float32]:
    """The label of every frame, (frames, 2): late, a little wrong, in [-1, 1]; NaN where the annotator gave none."""
    time_s = np.arange(frames) / VIDEO_HZ - settings.annotator_delay_s
    control_s = np.arange(len(affect.valence)) / CONTROL_HZ
    columns = []
    for truth in (affect.valence, affect.arousal):
        error = settings.annotator_noise * smooth_noise(rng, frames, VIDEO_HZ, 0.5)
        columns.append(np.clip(np.interp(time_s, control_s, truth) + error, -1, 1))
    labels = np.stack(columns, axis=1).astype(np.float32)
    while np.isnan(labels[:, 0]).mean() < settings.unlabelled_share:
        length = int(rng.uniform(0.5, 2.0) * VIDEO_HZ)
        start = int(rng.integers(-length, frames))
        labels[max(start, 0) : start + length] = np.nan
    return labels
