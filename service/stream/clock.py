"""When media were captured, in seconds from the stream's first; and when each window was complete."""

from collections import deque
from typing import Final

from service.errors import MalformedRequest, Overloaded

MAX_JUMP_S: Final = 30.0
"""From the latest time so far. A clock that is set anew would make windows without end, or none."""
MAX_BEHIND_S: Final = 60.0
RETRY_AFTER_S: Final = 5


class Clock:
    """One stream's. Times are on the capture clock, from its first medium on; arrivals on the monotonic clock."""

    def __init__(self, window_s: float, hop_s: float) -> None:
        self.window_s, self.hop_s = window_s, hop_s
        self.origin_us: int | None = None
        self.latest_s = 0.0
        self.noted = 0
        """Windows whose end has been reached."""
        self.reached: deque[float] = deque()
        """When the ends were reached of the windows that are not answered yet."""

    def place(self, captured_us: int) -> float:
        """Seconds from the first medium; MalformedRequest where that is far from the latest."""
        if self.origin_us is None:
            self.origin_us = captured_us
        time_s = (captured_us - self.origin_us) / 1e6
        if abs(time_s - self.latest_s) > MAX_JUMP_S:
            raise MalformedRequest(
                f"the capture time jumps from {self.latest_s:.3f} s to {time_s:.3f} s; jumps of at most "
                f"{MAX_JUMP_S:g} s are accepted: begin another stream"
            )
        return time_s

    def arrived(self, end_s: float, now_s: float) -> None:
        """Something that reaches to `end_s` has come. Raises Overloaded where the answers are far behind."""
        self.latest_s = max(self.latest_s, end_s)
        while self.noted * self.hop_s + self.window_s <= self.latest_s:
            self.noted += 1
            self.reached.append(now_s)
        if len(self.reached) * self.hop_s > MAX_BEHIND_S + self.hop_s:
            raise Overloaded(
                f"the answers are {MAX_BEHIND_S:g} s behind the stream; try again in {RETRY_AFTER_S} s, with fewer "
                "pictures a second, or a larger hop_s",
                RETRY_AFTER_S,
            )

    def complete_since(self, now_s: float) -> float:
        """When the next window to be answered was complete; `now_s` for one that the stream's end has cut short."""
        return self.reached.popleft() if self.reached else now_s
