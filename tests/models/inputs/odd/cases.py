"""The table of odd recordings."""

from typing import Final

from . import colour, geometry, sound, timing, tracks
from .case import Case

CASES: Final[tuple[Case, ...]] = (*timing.CASES, *geometry.CASES, *colour.CASES, *tracks.CASES, *sound.CASES)
