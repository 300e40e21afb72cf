"""What turns a recording's bytes into pictures and samples: here, or in a process of its own."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.container import MediaLimits, Source, Tick
from models.inputs.media.media import MediaInfo
from models.inputs.media.video import Frame


class Decoder(Protocol):
    """The functions of `models.inputs.media.media`, which says what each of them does and is a decoder itself."""

    def probe(self, source: Source, limits: MediaLimits, *, tick: Tick = ...) -> MediaInfo:
        """What the recording holds."""

    def frames_at(
        self, source: Source, times_s: Sequence[float], limits: MediaLimits, *, tick: Tick = ...
    ) -> Iterator[Frame]:
        """For each of the times the frame shown then."""

    def sound_pieces(
        self,
        source: Source,
        rate_hz: int,
        limits: MediaLimits,
        *,
        start_s: float = ...,
        end_s: float | None = ...,
        tick: Tick = ...,
    ) -> Iterator[NDArray[np.float32]]:
        """The sound between two times, mono, piece by piece. It may be read in turns with `frames_at`."""

    def decode_picture(self, source: Source, limits: MediaLimits) -> NDArray[np.uint8]:
        """One picture."""
