"""A clip and a corpus: what every reader gives and everything after it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.spec import Side, Task

SYNTHETIC_MARKER: Final = "SYNTHETIC.md"
"""A file of this name at a corpus's root says that its people are drawn."""


class CorpusError(ValueError):
    """A file of the corpus is missing or not in the corpus's format; the message names it and what was expected."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One labelled recording; two clips are the same only if they are one object."""

    id: str
    """Unique in the corpus, e.g. `071309_w_21-PA3-017`."""
    subject: str
    """The person, or the base video where the corpus names no person: splits are made by it."""
    video: Path | None
    signals: Path | None = None
    """BioVid's `*_bio.csv`."""
    pictures: Path | None = None
    """Affwild2's folder of aligned faces, `00001.jpg` for the first frame; `video` then gives sound and times only."""
    level: int | None = None
    """Pain: index into `Corpus.levels`."""
    labels: NDArray[np.float32] | None = None
    """Valence-arousal: (frames, 2), NaN in both columns where a frame has no label; row n is frame n."""
    side: Side | None = None
    """The half of the picture in which the labelled person is; None where only one person is shown."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """For scores by group, e.g. `{"sex": "female", "age": "18-35"}`; "unknown" where the corpus does not say."""
    split: Literal["train", "test"] | None = None
    """The corpus's own split, None where it has none."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """All clips of one corpus."""

    name: str
    """`biovid`, `affwild2`, or what a feature corpus calls itself."""
    task: Task
    levels: tuple[str, ...]
    """From no pain to the strongest stimulus, or classes; empty for values."""
    clips: tuple[Clip, ...]
    signal_columns: tuple[str, ...]
    """The physiological columns that this part of the corpus has."""
    synthetic: bool
    licence: str
    """A sentence for the card of what is trained on it."""
    values: tuple[str, ...] = ()
    """The names of regression's values; empty for the others."""
    notes: tuple[str, ...] = ()
    """What a reader left out or trimmed, in sentences."""

    @property
    def groups(self) -> dict[str, Mapping[str, str]]:
        """What the corpus says of each person: attribute to group."""
        return {clip.subject: clip.groups for clip in self.clips}


SYNTHETIC_LICENCE: Final = "Synthetic: drawn faces and computed signals, CC0 1.0; no person was recorded."


def is_synthetic(root: Path) -> bool:
    """Whether the corpus under `root` says that it is drawn."""
    return (root / SYNTHETIC_MARKER).is_file()


def relative(path: Path, root: Path) -> str:
    """How messages name a file of the corpus: below its root, with forward slashes."""
    return path.relative_to(root).as_posix()
