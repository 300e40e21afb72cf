"""A decoder whose work is done by children: it asks for pictures and samples, and checks all that comes back."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.inputs.media.container import MediaError, MediaLimits, Source, Tick, no_tick
from models.inputs.media.media import Frame, MediaInfo
from service.sandbox.conversation import Conversation
from service.sandbox.process import Cause
from service.sandbox.replies import Done, Facts, FrameLies, SamplesLie
from service.sandbox.ring import SLOTS

MAX_SAMPLE: Final = 16.0
"""Resampling may overshoot full scale, but never by so much."""


class SandboxedDecoder:
    """A `models.inputs.media.decoder.Decoder` for one request.

    `begin` starts a child. One does everything, unless picture and sound are read in turns: then each has one of its
    own, so that both can work ahead.

    Every method raises MediaError, DecoderEnded where a child crashes, hangs, or answers what it must not; and
    SandboxLost.
    """

    def __init__(self, begin: Callable[[], Conversation]) -> None:
        self.begin = begin
        self.conversations = [begin()]

    @property
    def spent(self) -> Cause | None:
        """Why a child can do no more, if so."""
        return next((one.spent for one in self.conversations if one.spent is not None), None)

    def probe(self, source: Source, limits: MediaLimits, *, tick: Tick = no_tick) -> MediaInfo:
        child = self.free()
        child.order("probe", source, limits)
        facts = child.expect(child.answer(tick), Facts)
        child.busy = False
        sized = facts.width is not None and facts.height is not None
        fits = (
            facts.duration_s <= limits.max_duration_s and (facts.width or 0) * (facts.height or 0) <= limits.max_pixels
        )
        if not fits or sized != facts.has_video:
            raise child.refusal("garbled")
        return MediaInfo(**facts.model_dump(exclude={"kind"}))

    def frames_at(
        self, source: Source, times_s: Sequence[float], limits: MediaLimits, *, tick: Tick = no_tick
    ) -> Iterator[Frame]:
        if len(times_s) == 0:
            return
        child = self.free()
        times = np.asarray(times_s, np.float64)
        if times.nbytes > SLOTS * child.child.ring.slot_bytes:
            raise MediaError("too_large", f"{len(times)} frames were asked for, more than can be; take a larger hop_s")
        child.child.ring.write(0, times)
        child.order("frames", source, limits, times=len(times))
        yield from frames(child, len(times), limits, tick)

    def decode_picture(self, source: Source, limits: MediaLimits) -> NDArray[np.uint8]:
        child = self.free()
        child.order("picture", source, limits)
        (frame,) = frames(child, 1, limits, no_tick)
        return frame.rgb

    def sound_pieces(
        self,
        source: Source,
        rate_hz: int,
        limits: MediaLimits,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        tick: Tick = no_tick,
    ) -> Iterator[NDArray[np.float32]]:
        child = self.free()
        child.order("sound", source, limits, rate_hz=rate_hz, start_s=start_s, end_s=end_s)
        last_s = limits.max_duration_s if end_s is None else min(end_s, limits.max_duration_s)
        left = max(0, round((last_s - start_s) * rate_hz))
        while not isinstance(reply := child.answer(tick), Done):
            count = child.expect(reply, SamplesLie).count
            if count > left or 4 * count > child.child.ring.slot_bytes:
                raise child.refusal("garbled")
            piece = child.take(count, np.float32)
            if not (np.abs(piece) <= MAX_SAMPLE).all():  # which no NaN passes
                raise child.refusal("garbled")
            left -= count
            yield piece
        child.busy = False

    def free(self) -> Conversation:
        """A child that has nothing to do, if need be a new one."""
        for conversation in self.conversations:
            if not conversation.busy:
                return conversation
        self.conversations.append(self.begin())
        return self.conversations[-1]


def frames(child: Conversation, owed: int, limits: MediaLimits, tick: Tick) -> Iterator[Frame]:
    """So many frames, some of them several times; the last one comes when the child is done."""
    while owed:
        lies = child.expect(child.answer(tick), FrameLies)
        size = 3 * lies.height * lies.width
        if lies.times > owed or size > min(3 * limits.max_pixels, child.child.ring.slot_bytes):
            raise child.refusal("garbled")
        rgb = child.take(size, np.uint8).reshape(lies.height, lies.width, 3)
        owed -= lies.times
        if not owed:
            child.done(tick)
        frame = Frame(lies.time_s, rgb, lies.stretch)
        yield from (frame for _ in range(lies.times))
