"""What has come of a stream and is not yet looked at: the newest pictures, and all of the sound.

The latest-frame policy: PICTURES_WAITING pictures may wait, and a newer one takes the place of the oldest. Sound is
never dropped; where more than SOUND_WAITING_BYTES of it wait, the stream is ended.
"""

import threading
from collections import deque
from typing import Final, NamedTuple

from service.errors import Overloaded

PICTURES_WAITING: Final = 3
"""A network hands over some at once; more would only make the answers later."""
SOUND_WAITING_BYTES: Final = 4 << 20
MESSAGE_BYTES: Final = 256
"""What a message takes beside its payload."""
RETRY_AFTER_S: Final = 5


class Waiting(NamedTuple):
    """A picture, or a stretch of sound, and when it begins."""

    time_s: float
    payload: bytes
    is_picture: bool


class Mailbox:
    """Filled by the event loop, emptied by one thread."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.pictures: deque[Waiting] = deque()
        self.sounds: deque[Waiting] = deque()
        self.sound_bytes = 0
        self.last_picture_s: float | None = None
        self.dropped = self.told = 0
        """Pictures that were passed over, and as many of them as the windows so far have told."""
        self.ended = False

    def add_picture(self, time_s: float, payload: bytes) -> int:
        """Tells how many pictures are passed over for it: 1 where one that waits must give way, or where it is itself
        no later than the one before it."""
        with self.news:
            late = self.last_picture_s is not None and time_s <= self.last_picture_s
            dropped = 1 if late or len(self.pictures) == PICTURES_WAITING else 0
            self.dropped += dropped
            if late:
                return dropped
            if dropped:
                self.pictures.popleft()
            self.last_picture_s = time_s
            self.pictures.append(Waiting(time_s, payload, is_picture=True))
            self.news.notify()
            return dropped

    def add_sound(self, time_s: float, payload: bytes) -> None:
        """Raises Overloaded."""
        with self.news:
            if self.sound_bytes > SOUND_WAITING_BYTES:
                raise Overloaded(
                    f"{self.sound_bytes} bytes of sound wait; the service is too slow for this stream, or it was sent "
                    f"faster than it was recorded; try again in {RETRY_AFTER_S} s",
                    RETRY_AFTER_S,
                )
            self.sounds.append(Waiting(time_s, payload, is_picture=False))
            self.sound_bytes += len(payload) + MESSAGE_BYTES
            self.news.notify()

    def end(self) -> None:
        """Nothing more will come."""
        with self.news:
            self.ended = True
            self.news.notify()

    def take(self) -> Waiting | None:
        """What waits and began first; waits for something to come. None once there will be no more."""
        with self.news:
            self.news.wait_for(lambda: self.pictures or self.sounds or self.ended)
            if self.sounds and not (self.pictures and self.pictures[0].time_s < self.sounds[0].time_s):
                sound = self.sounds.popleft()
                self.sound_bytes -= len(sound.payload) + MESSAGE_BYTES
                return sound
            return self.pictures.popleft() if self.pictures else None

    def newly_dropped(self) -> int:
        """How many were passed over since this was last asked."""
        with self.news:
            newly, self.told = self.dropped - self.told, self.dropped
            return newly
