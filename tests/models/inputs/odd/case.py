"""What a case is: a recording, and what has to come of it."""

from collections.abc import Callable
from dataclasses import dataclass

from models.inputs.media.media import MediaLimits

USUAL = MediaLimits()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What has to come; None is not looked at."""

    size: tuple[int, int] | None = None
    """Width and height that the answer names: turned, but not stretched."""
    pixels: tuple[int, int] | None = None
    """Width and height of the picture that faces are looked for in: square pixels."""
    duration_s: float | None = None
    fps: float | None = None
    times_s: tuple[float, ...] | None = None
    """When each of the frames is shown."""
    numbers: tuple[int, ...] | None = None
    """Which pictures these are, in this order."""
    corners: str | None = None
    """How a picture of red, green / blue, white is displayed."""
    columns: tuple[tuple[float, float, float], ...] | None = None
    """The colours of equal columns, 0..255."""
    within: float = 3.0
    """By how much one of them may be off."""
    level: float | None = None
    """The sound's largest sample, its first and last fifth left out."""
    sounds_from_s: float | None = None
    hears: tuple[str, ...] | None = None
    """For each window of a second: `voice`, or the reason why none was observed."""
    refused: str | None = None
    """The code, and parts of its message: the limit and the value."""
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """`kind` is the row of docs/media.md that it belongs to."""

    kind: str
    name: str
    make: Callable[[], bytes]
    wanted: Wanted
    limits: MediaLimits = USUAL
