"""What an oracle can know of the synthetic valence-arousal corpus (docs/synthetic-corpora.md)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.corpora.affect_model import (
    CONTROL_HZ,
    Affect,
    SyntheticAffect,
    affect_expression,
    annotate,
    draw_affect,
    phrases,
)
from training.corpora.drawn_voice import harmonics, speak

FRAMES = round(SyntheticAffect().video_s * 25)
Floats = NDArray[np.float64]


def concordance(x: Floats, y: Floats) -> float:
    return float(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def held_out_concordance(features: Floats, labels: Floats, train: NDArray[np.bool_]) -> Floats:
    """CCC of both labels on the rows outside `train`, by least squares on those in it."""
    x = np.column_stack([features, np.ones(len(features))])
    weights = np.linalg.lstsq(x[train], labels[train], rcond=None)[0]
    predicted = x[~train] @ weights
    return np.array([concordance(predicted[:, j], labels[~train][:, j]) for j in range(2)])


def test_the_voice_tells_valence_and_arousal_better_than_the_face_does() -> None:
    settings = SyntheticAffect()
    faces, voices, labels, videos = [], [], [], []
    for index in range(80):
        affect, rng = draw_affect(settings, index), np.random.default_rng([9, index])
        label = annotate(rng, settings, affect, FRAMES)
        units = np.array(affect_expression(rng, settings, affect, np.arange(FRAMES, dtype=np.float32) / 25))
        for start in range(0, FRAMES - 50, 25):  # windows of 2 s
            window, control = slice(start, start + 50), slice(4 * start, 4 * start + 200)
            if np.isnan(label[window, 0]).mean() > 0.5:
                continue
            weight = affect.speaks[control] + 1e-3
            heard = [
                (trace[control] * weight).sum() / weight.sum() for trace in (affect.voice_valence, affect.voice_arousal)
            ]
            voices.append(heard)
            faces.append(np.concatenate([units[:, window].mean(axis=1), units[:, window].max(axis=1)]))
            labels.append(np.nanmean(label[window], axis=0))
            videos.append(index)
    train, truth = np.array(videos) % 2 == 0, np.array(labels, float)

    by_face = held_out_concordance(np.array(faces, float), truth, train)
    by_voice = held_out_concordance(np.array(voices, float), truth, train)

    assert (by_face > 0.5).all()
    assert (by_face < 0.8).all()
    assert (by_voice > by_face + 0.1).all()


def test_the_annotator_is_late_by_the_delay() -> None:
    settings = SyntheticAffect(annotator_delay_s=0.4, annotator_noise=0.0, unlabelled_share=0.0)
    affect = draw_affect(settings, 0)

    labels = annotate(np.random.default_rng(0), settings, affect, FRAMES)

    np.testing.assert_allclose(
        labels[10:, 0], affect.valence[: 4 * (FRAMES - 10) : 4], atol=1e-5
    )  # 10 frames are 0.4 s


def test_labels_lie_in_range_and_some_frames_have_none() -> None:
    settings = SyntheticAffect(annotator_noise=0.5, unlabelled_share=0.1)

    labels = annotate(np.random.default_rng(0), settings, draw_affect(settings, 0), FRAMES)

    assert 0.1 <= np.isnan(labels).all(axis=1).mean() < 0.25
    assert np.nanmax(np.abs(labels)) <= 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_person_speaks_for_the_given_share_of_the_time(share: float) -> None:
    course = phrases(np.random.default_rng(0), int(600 * CONTROL_HZ), share)

    assert course.mean() == pytest.approx(share, abs=0.06)


def level(affect: Affect, **changes: NDArray[np.float32]) -> float:
    return float(np.square(speak(np.random.default_rng(0), affect._replace(**changes))).mean())


def test_arousal_makes_the_voice_louder() -> None:
    affect = draw_affect(SyntheticAffect(video_s=4.0), 0)
    ones = np.ones_like(affect.valence)

    assert level(affect, voice_arousal=0.8 * ones) > 2 * level(affect, voice_arousal=-0.8 * ones)


def test_a_steady_pitch_gives_lines_at_its_multiples() -> None:
    n = 200
    formants = np.tile([500.0, 1500.0, 2500.0], (n, 1))

    sound = harmonics(np.full(n, 200.0), formants, np.ones(n), np.full(n, -6.0))

    spectrum = np.abs(np.fft.rfft(sound[:16000]))  # 1 s: a bin a hertz
    lines = np.flatnonzero(spectrum > 0.02 * spectrum.max())
    assert set(lines) <= set(range(200, 5001, 200))
    assert {200, 400, 600} <= set(lines)


def test_the_sound_never_clips() -> None:
    affect = draw_affect(SyntheticAffect(video_s=3.0), 1)

    sound = speak(np.random.default_rng(0), affect._replace(voice_arousal=np.full_like(affect.valence, 1.2)))

    assert sound.dtype == np.float32
    assert sound.shape == (48000,)
    assert np.abs(sound).max() < 1
