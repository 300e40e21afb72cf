"""What an oracle can know of the synthetic pain corpus, from the latent variables alone (docs/synthetic-corpora.md)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.inputs.signals import prepare_signal
from models.spec import SignalSpec
from training.corpora.drawn_signals import RATE_HZ, conductance, draw_body, heartbeat, muscle
from training.corpora.pain_model import (
    CLIP_FRAMES,
    SyntheticPain,
    clip_rng,
    draw_person,
    draw_reaction,
    pain_expression,
)

Floats = NDArray[np.float64]


def softmax_accuracy(features: Floats, levels: NDArray[np.int64], train: NDArray[np.bool_]) -> float:
    """Accuracy on the rows outside `train` of a softmax regression fitted to those in it."""
    scaled = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-6)
    x = np.column_stack([scaled, np.ones(len(scaled))])
    weights, momentum = np.zeros((x.shape[1], 5)), np.zeros((x.shape[1], 5))
    for _ in range(400):
        scores = x[train] @ weights
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        momentum = 0.9 * momentum + x[train].T @ (shares - np.eye(5)[levels[train]]) / train.sum() + 1e-4 * weights
        weights -= 0.3 * momentum
    return float((np.argmax(x[~train] @ weights, axis=1) == levels[~train]).mean())


def test_the_reaction_tells_the_level_better_than_the_face_does() -> None:
    settings, time_s = SyntheticPain(), np.arange(CLIP_FRAMES, dtype=np.float32) / 25
    reactions, faces, levels, people, reactive = [], [], [], [], []
    for index in range(200):
        person = draw_person(settings, index)
        for level in range(5):
            for number in range(3):
                rng = clip_rng(settings, index, level, number)
                reaction = draw_reaction(rng, settings, person, level / 4)
                units = np.array(pain_expression(rng, settings, person, reaction, time_s))[:, ::14]
                reactions.append(reaction.strength ** np.arange(1, 4))
                faces.append(np.concatenate([units.mean(axis=1), units.max(axis=1)]))
                levels.append(level)
                people.append(index)
                reactive.append(person.reactivity > 0.1)
    train, level = np.array(people) % 2 == 0, np.array(levels)
    react = np.array(reactive)

    by_reaction = softmax_accuracy(np.array(reactions), level, train)
    by_reaction_of_reactive = softmax_accuracy(np.array(reactions)[react], level[react], train[react])
    by_face = softmax_accuracy(np.array(faces), level, train)

    assert 0.45 < by_reaction_of_reactive < 0.60
    assert 0.28 < by_face < 0.37
    assert by_reaction > by_face + 0.10


def test_about_a_fifth_of_the_people_do_not_react() -> None:
    reactivity = np.array([draw_person(SyntheticPain(), index).reactivity for index in range(500)])

    assert 0.15 < (reactivity < 0.1).mean() < 0.25
    assert 0.9 < np.median(reactivity[reactivity > 0.1]) < 1.1


def test_people_are_named_as_biovid_names_them_and_no_two_alike() -> None:
    names = [draw_person(SyntheticPain(), index).name for index in range(400)]

    assert len({name.split("_")[0] for name in names}) == 400
    for name in names:
        day, sex, age = name.split("_")
        assert len(day) == 6
        assert 1 <= int(day[:2]) <= 31
        assert 1 <= int(day[2:4]) <= 12
        assert sex in {"w", "m"}
        assert 20 <= int(age) <= 65


@pytest.mark.parametrize("modality", ["eda", "ecg", "emg"])
def test_a_reaction_shows_in_each_signal(modality: str) -> None:
    """Against the same body at rest: conductance and activity rise in the clip's second half, beats come faster."""
    body = draw_body(np.random.default_rng(3))
    compute = {"eda": conductance, "ecg": heartbeat, "emg": muscle}[modality]
    late = np.where(np.arange(2816) < 1024, 0.0, 1.0)

    def shown(reaction: Floats) -> Floats:
        raw = compute(np.random.default_rng(5), body, reaction, 1.0).astype(np.float32)
        return prepare_signal(modality, raw[None], RATE_HZ, SignalSpec(channels=("x",), rate_hz=64), 5.5)[0]

    rest, reacting = shown(0 * late), shown(late)

    if modality == "ecg":
        assert count_beats(reacting[192:]) > count_beats(rest[192:])
    else:
        assert reacting[256:].mean() > rest[256:].mean() + 0.05
        np.testing.assert_allclose(reacting[:80], rest[:80], atol=0.02)


def count_beats(ecg: Floats) -> int:
    return int((np.diff((ecg > 0.5).astype(int)) == 1).sum())


def test_the_heart_beats_at_its_resting_rate() -> None:
    body = draw_body(np.random.default_rng(0))._replace(heart_rate_bpm=72.0)

    ecg = heartbeat(np.random.default_rng(1), body, np.zeros(int(60 * RATE_HZ)), noise=0.0)

    assert count_beats(ecg / body.r_peak_uv) == pytest.approx(72, abs=1)
