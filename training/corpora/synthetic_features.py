"""A synthetic corpus of kind `features`, in which a privileged modality knows what the prevalent one only hints at.

Each row has a class y of four and a latent u in the plane: the corner y of a square plus spread within the class. `eda`
shows u with little noise, `voice` with more, `face` with most, each through its own random mixing, a soft limit and the
person's own offset. So a teacher that sees `eda` clearly beats a student that sees `face`, and u has structure beyond
the label for the teacher to pass on. docs/synthetic-corpora.md has the same idea with pictures and sound.
"""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.corpora.clip import SYNTHETIC_LICENCE, SYNTHETIC_MARKER
from training.corpora.feature_corpus import FeatureCorpus, times_by_number
from training.corpora.features import write_features
from training.corpora.synthetic import WHAT, holds, write_marker
from training.files.replacing import replacing

CLASSES: Final = ("calm", "tense", "sad", "glad")
CORNERS: Final = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
WIDTHS: Final = {"face": 24, "eda": 12, "voice": 16}
"""Features of each modality."""

Level = Annotated[float, Field(ge=0)]


class SyntheticFeatures(BaseModel):
    """Everything that the synthetic feature corpus depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: Annotated[int, Field(ge=0)] = 1
    people: Annotated[int, Field(ge=2)] = 24
    rows_per_class: Annotated[int, Field(ge=1)] = 10
    """Of each person."""
    spread: Level = 0.45
    """Standard deviation of the latent within a class, in half sides of the square of classes."""
    face_noise: Level = 1.1
    """Standard deviation of the error in the latent that the face shows."""
    voice_noise: Level = 0.7
    eda_noise: Level = 0.2
    sensor_noise: Level = 0.3
    """Standard deviation of the noise of each single feature."""
    offset: Level = 0.2
    """Standard deviation over people of each feature's level."""


def synthesize_features(folder: Path, settings: SyntheticFeatures | None = None) -> None:
    """Write the corpus as features.npz and SYNTHETIC.md to `folder`; nothing is done where it is there already.

    Raises FolderInUseError where the folder holds anything else than a synthetic corpus.
    """
    settings = settings or SyntheticFeatures()
    if holds(folder, settings):
        return
    with replacing(folder, marker=SYNTHETIC_MARKER, what=WHAT) as part:
        write_features(part / "features.npz", draw_features(settings))
        write_marker(part, settings, "feature corpora")


def draw_features(settings: SyntheticFeatures) -> FeatureCorpus:
    """The corpus itself: people × 4 classes × `rows_per_class` rows, the same for the same settings."""
    rng = np.random.default_rng([settings.seed, 5])
    own = len(CLASSES) * settings.rows_per_class
    person = np.repeat(np.arange(settings.people), own)
    label = np.tile(np.repeat(np.arange(len(CLASSES)), settings.rows_per_class), settings.people)
    latent = CORNERS[label] + settings.spread * rng.standard_normal((len(label), 2))
    noise = {"face": settings.face_noise, "eda": settings.eda_noise, "voice": settings.voice_noise}
    names = [f"person{p + 1:02d}" for p in range(settings.people)]
    clip = tuple(f"{names[p]}-{i % own + 1:02d}" for i, p in enumerate(person.tolist()))
    return FeatureCorpus(
        name="synthetic-features",
        task="classification",
        classes=CLASSES,
        values=(),
        licence=SYNTHETIC_LICENCE,
        synthetic=True,
        modalities={
            name: show(rng, latent + noise[name] * rng.standard_normal(latent.shape), person, width, settings)
            for name, width in WIDTHS.items()
        },
        labels=label.astype(np.int64),
        group=tuple(names[p] for p in person.tolist()),
        clip=clip,
        split=(None,) * len(label),
        groups=tuple({"sex": "female" if p % 2 == 0 else "male"} for p in person.tolist()),
        time_s=times_by_number(clip),
    )


def show(
    rng: np.random.Generator,
    latent: NDArray[np.float64],
    person: NDArray[np.int64],
    width: int,
    settings: SyntheticFeatures,
) -> NDArray[np.float32]:
    """(N, 2) to (N, width): mix, limit softly, add the person's level and the sensor's noise."""
    mixed = np.tanh(latent @ rng.normal(0, 0.7, (2, width)) + rng.normal(0, 0.3, width))
    levels = settings.offset * rng.standard_normal((settings.people, width))
    values = mixed + levels[person] + settings.sensor_noise * rng.standard_normal(mixed.shape)
    return np.asarray(values, np.float32)
