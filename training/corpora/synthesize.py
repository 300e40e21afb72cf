"""What draws the synthetic corpus of each kind; it needs no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from training.corpora.synthetic import synthesize_affwild2, synthesize_biovid
from training.corpora.synthetic_features import synthesize_features

SYNTHESIZE: Final[Mapping[str, Callable[[Path], None]]] = {
    "biovid": synthesize_biovid,
    "affwild2": synthesize_affwild2,
    "features": synthesize_features,
}
