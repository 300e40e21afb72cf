"""The pictures of a stream: decoded in a child of its own, and the faces that are seen in them."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.inputs.face.face import FaceObservation, FaceTracker
from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaError, MediaLimits
from service.errors import UnreadableMedia

CHILD_S: Final = 600.0
"""What a child is given time for; its processor time is a share of that (`service.sandbox.sandbox.CPU_SHARE`)."""
RENEW_AFTER_S: Final = 300.0
"""After so long a child is replaced: before it can have used up its processor time."""
MAX_DAMAGED: Final = 100


class PictureDecoder:
    """Decodes one stream's pictures in one child at a time. To be closed; not to be shared by threads.

    The child is renewed every RENEW_AFTER_S, so that no healthy stream reaches the end of its processor time; and after
    each picture that it refused or died of.
    """

    def __init__(
        self,
        open_decoder: Callable[[float], AbstractContextManager[Decoder]],
        limits: MediaLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open_decoder, self.limits, self.clock = open_decoder, limits, clock
        self.child = ExitStack()
        self.decoder: Decoder | None = None
        self.opened_s = -math.inf

    def decode(self, jpeg: bytes) -> NDArray[np.uint8]:
        """uint8 (H, W, 3). Raises MediaError and SandboxLost."""
        if self.decoder is None or self.clock() - self.opened_s > RENEW_AFTER_S:
            self.close()
            self.opened_s = self.clock()
            self.decoder = self.child.enter_context(self.open_decoder(CHILD_S))
        try:
            return self.decoder.decode_picture(jpeg, self.limits)
        except BaseException:
            self.decoder = None
            with self.child.pop_all():  # which learns from the error how its child ended
                raise

    def close(self) -> None:
        """End the child."""
        self.decoder = None
        self.child.close()


@dataclass
class Shown:
    """The picture that is shown from a time on; `faces` once they were looked for, None where it is damaged."""

    time_s: float
    jpeg: bytes
    looked: bool = False
    faces: tuple[FaceObservation, ...] | None = None


class Viewer:
    """Knows the newest picture, and looks at it only where somebody asks."""

    def __init__(self, decoder: PictureDecoder, tracker: FaceTracker) -> None:
        self.decoder, self.tracker = decoder, tracker
        self.shown: Shown | None = None
        self.damaged = 0
        """In a row."""

    def show(self, time_s: float, jpeg: bytes) -> None:
        """A newer picture takes the place of the one before."""
        self.shown = Shown(time_s, jpeg)

    def look(self) -> tuple[float, tuple[FaceObservation, ...]]:
        """When the picture that is shown began, and the faces in it; −inf where there is none, or a damaged one.

        Raises UnreadableMedia after MAX_DAMAGED damaged ones in a row, MediaError for one that is too large, and
        SandboxLost.
        """
        shown = self.shown
        if shown is None:
            return -math.inf, ()
        if not shown.looked:
            shown.looked = True
            shown.faces = self.faces(shown)
            shown.jpeg = b""
        return (-math.inf, ()) if shown.faces is None else (shown.time_s, shown.faces)

    def faces(self, shown: Shown) -> tuple[FaceObservation, ...] | None:
        try:
            rgb = self.decoder.decode(shown.jpeg)
        except MediaError as error:
            if error.code == "too_large":
                raise
            self.damaged += 1
            if self.damaged >= MAX_DAMAGED:
                raise UnreadableMedia(
                    f"{MAX_DAMAGED} pictures in a row are damaged; send whole JPEGs, each in a message of its own"
                ) from None
            return None
        self.damaged = 0
        return self.tracker.step(shown.time_s, rgb)
