"""The thread of a stream: what waits in its mailbox becomes windows, each as soon as all of it is there."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, NamedTuple

from models.inputs.assemble import ROUNDING_S, Assembler, WindowInput
from models.inputs.face.face import Follow
from models.inputs.prepare import HOLD_INTERVALS, HOLD_S
from models.inputs.windows import Window
from models.spec import InputSpec
from service.stream.mailbox import Mailbox
from service.stream.messages import Hello
from service.stream.pictures import Viewer
from service.stream.sound import Hearing, Samples

LATE_S: Final = 2.0
"""Of two kinds of media, one may lag behind the other by so much; then its windows go on without it."""


class Ready(NamedTuple):
    """A window with all its rows, and how many pictures were passed over since the window before."""

    rows: tuple[WindowInput, ...]
    dropped_frames: int


class Assembly:
    """Runs in one thread, and `put`s each window. Pictures that no window samples are never decoded."""

    def __init__(
        self,
        hello: Hello,
        spec: InputSpec,
        mailbox: Mailbox,
        viewer: Viewer | None,
        put: Callable[[Ready], None],
        *,
        hop_s: float,
        follow: Follow,
    ) -> None:
        self.mailbox, self.viewer, self.put = mailbox, viewer, put
        self.frame_s = 1 / hello.video.fps if hello.video is not None else 0.0
        self.hearing = Hearing(hello.audio, spec.voice.sample_rate_hz) if hello.audio and spec.voice else None
        self.assembler = Assembler(
            spec,
            endless(spec.window_s, hop_s),
            sees=viewer is not None,
            hears=self.hearing is not None,
            follow=follow,
            hold_s=max(HOLD_S, HOLD_INTERVALS * self.frame_s),
        )
        self.end_s = -math.inf
        """Of the media so far."""

    def run(self) -> None:
        """Everything until the stream's end. Raises what `put` and `Viewer.look` raise."""
        while (waiting := self.mailbox.take()) is not None:
            take = self.see if waiting.is_picture else self.hear
            take(waiting.time_s, waiting.payload)
        self.finish()

    def hand_over(self) -> None:
        assembler = self.assembler
        while not (assembler.done or assembler.lacks_picture or assembler.lacks_sound):
            self.put(Ready(assembler.take(), self.mailbox.newly_dropped()))

    def see(self, time_s: float, jpeg: bytes) -> None:
        """The picture before this one is what was shown until now."""
        self.end_s = max(self.end_s, time_s + self.frame_s)
        if self.viewer is None:
            return
        self.look_until(time_s)
        self.viewer.show(time_s, jpeg)
        if self.hearing is not None:
            self.listen(self.hearing.fill(time_s - LATE_S))

    def hear(self, time_s: float, pcm: bytes) -> None:
        if self.hearing is None:
            return
        self.listen(self.hearing.take(time_s, pcm))
        heard_s = self.hearing.given / self.hearing.rate_hz
        self.end_s = max(self.end_s, heard_s)
        if self.viewer is not None:
            self.look_until(heard_s - LATE_S)

    def finish(self) -> None:
        """The last windows are cut where the media end; there are none where nothing came."""
        if self.end_s == -math.inf:
            return
        if self.hearing is not None:
            self.listen(self.hearing.flush())
            self.end_s = max(self.end_s, self.hearing.given / self.hearing.rate_hz)
        self.assembler.cut(self.end_s)
        self.look_until(math.inf)
        self.assembler.close_eyes()
        self.assembler.close_ears()
        self.hand_over()

    def look_until(self, time_s: float) -> None:
        """Answer what was asked before that time with the picture that is shown."""
        while self.viewer is not None and (due_s := self.assembler.due_s) is not None and due_s < time_s - ROUNDING_S:
            self.assembler.look(*self.viewer.look())
            self.hand_over()

    def listen(self, pieces: Iterable[Samples]) -> None:
        for samples in pieces:
            self.assembler.listen(samples)
            self.hand_over()


def endless(window_s: float, hop_s: float) -> Iterator[Window]:
    """A window every hop, for ever."""
    return (Window(n * hop_s, n * hop_s + window_s) for n in count())
