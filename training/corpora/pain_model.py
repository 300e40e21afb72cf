"""The generative model of the synthetic pain corpus: from a stimulus to what body and face show of it.

A stimulus s in {0, 1/4, .., 1} (BL1..PA4) makes the person's reaction r = max(0, g s + noise), where g is the person's
reactivity. The body shows r; the face shows e r + noise for some moments, where e is the person's expressiveness,
among blinks, smiles and frowns that mean nothing. The label is the stimulus. docs/synthetic-corpora.md has all of it.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.corpora.drawn_face import ActionUnits
from training.corpora.drawn_head import Identity, draw_identity
from training.corpora.drawn_motion import idle_expressions, together
from training.corpora.drawn_signals import Body, draw_body
from training.corpora.traces import Trace, episode, smoothstep

CLIP_S: Final = 5.5
CLIP_FRAMES: Final = 138
"""The frames that begin within 5.5 s."""

PAIN_UNITS: Final = (0, 0, 0.9, 0, 0.6, 0.8, 0.6, 0.6, 0, 0, 0.5, 0, 0.55)
"""Intensity of each of the `ActionUnits` in a full display: 4, 6, 7, 9, 10, 43 (Prkachin and Solomon 2008), and 25."""

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0)]


class SyntheticPain(BaseModel):
    """Everything that the synthetic pain corpus depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: Annotated[int, Field(ge=0)] = 1
    people: Annotated[int, Field(ge=1)] = 40
    clips_per_class: Annotated[int, Field(ge=1)] = 3
    picture_px: Annotated[int, Field(ge=96, le=512, multiple_of=2)] = 160
    unreactive_share: Share = 0.2
    """People whose reactivity is 0.05 instead of about 1."""
    reactivity_spread: Level = 0.2
    """Standard deviation of log g over the other people."""
    reaction_noise: Level = 0.2
    """Standard deviation of the reaction to one stimulus."""
    expressiveness: Level = 0.75
    """Median of e."""
    expressiveness_spread: Level = 0.45
    """Standard deviation of log e over people."""
    unit_spread: Level = 0.4
    """Standard deviation over people of the logarithm of each action unit's share in the display."""
    display_noise: Level = 0.22
    """Standard deviation of what the face shows of one reaction, beside e r."""
    idle_per_minute: Level = 4.0
    """Episodes a minute of each idle expression."""
    body_noise: Level = 1.0
    """Scales all noise of the physiology."""


class Person(NamedTuple):
    """One drawn person."""

    name: str
    """As BioVid names people: day, sex, age."""
    identity: Identity
    body: Body
    reactivity: float
    expressiveness: float
    unit_shares: NDArray[np.float64]
    """(13,), factors on PAIN_UNITS."""
    resting_frown: float


class Reaction(NamedTuple):
    """What one stimulus does to one person."""

    stimulus: float
    strength: float
    """r"""
    onset_s: float
    display: float
    """What the face shows at its strongest moment: e r + noise, in 0..1.2."""
    moments: tuple[tuple[float, float, float], ...]
    """(onset_s, hold_s, relative strength) of the face's episodes."""


def draw_person(settings: SyntheticPain, index: int) -> Person:
    """Person number `index` of the corpus: the same whatever the number of people."""
    rng = np.random.default_rng([settings.seed, 1, index])
    female, age = bool(rng.random() < 0.5), int(rng.integers(20, 66))
    reactive = rng.random() >= settings.unreactive_share
    spread = settings.reactivity_spread
    return Person(
        name=f"{index % 28 + 1:02d}{index // 28 % 12 + 1:02d}{index // 336 + 9:02d}_{'w' if female else 'm'}_{age}",
        identity=draw_identity(rng, female=female, age=age),
        body=draw_body(rng),
        reactivity=float(rng.lognormal(0, spread)) if reactive else 0.05,
        expressiveness=settings.expressiveness * float(rng.lognormal(0, settings.expressiveness_spread)),
        unit_shares=rng.lognormal(0, settings.unit_spread, len(PAIN_UNITS)),
        resting_frown=float(rng.uniform(0, 0.15)),
    )


def clip_rng(settings: SyntheticPain, index: int, level: int, number: int) -> np.random.Generator:
    """The randomness of one clip: first its reaction, then its signals, then its picture."""
    return np.random.default_rng([settings.seed, 3, index, level, number])


def draw_reaction(rng: np.random.Generator, settings: SyntheticPain, person: Person, stimulus: float) -> Reaction:
    """One reaction to a stimulus in 0..1, and how the face shows it."""
    strength = max(0.0, person.reactivity * stimulus + settings.reaction_noise * rng.standard_normal())
    onset_s = float(rng.uniform(1.0, 1.8))
    shown = person.expressiveness * strength + settings.display_noise * rng.standard_normal()
    first_s = onset_s + float(rng.uniform(0.1, 0.6))
    again_s = first_s + float(rng.uniform(1.4, 2.4))
    moments = (
        (first_s, float(rng.uniform(0.5, 1.4)), 1.0),
        (again_s, float(rng.uniform(0.3, 1.0)), float(rng.random())),
    )
    return Reaction(stimulus, strength, onset_s, float(np.clip(shown, 0, 1.2)), moments)


def reaction_course(reaction: Reaction, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """r(t) in the body: rises within 1.2 s of its onset and eases off slowly."""
    since_s = time_s - reaction.onset_s
    rise: Trace = smoothstep(since_s / 1.2)
    return reaction.strength * rise * (1 - 0.05 * np.maximum(since_s - 1.2, 0))


def pain_expression(
    rng: np.random.Generator, settings: SyntheticPain, person: Person, reaction: Reaction, time_s: Trace
) -> ActionUnits:
    """The face of a clip: moments of pain, the person's resting frown, and idle expressions."""
    course = np.zeros_like(time_s)
    for onset_s, hold_s, strength in reaction.moments:
        course = np.maximum(course, np.float32(strength) * episode(time_s, onset_s, 0.35, hold_s, 0.6))
    pain = ActionUnits(
        *(
            np.float32(reaction.display * unit * share) * course
            for unit, share in zip(PAIN_UNITS, person.unit_shares, strict=True)
        )
    )
    rest = ActionUnits(*(np.zeros_like(time_s) for _ in PAIN_UNITS))._replace(
        brow_lowered_4=np.full_like(time_s, person.resting_frown)
    )
    return together(pain, rest, idle_expressions(rng, time_s, settings.idle_per_minute))
