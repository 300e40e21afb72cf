"""Where windows lie in a recording, and when inside a window frames are sampled."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_TAIL_SHARE = 0.1
"""A last window shorter than this share of the window is left out, unless it is the only one."""


class Window(NamedTuple):
    """[start_s, end_s) on the recording's own clock."""

    start_s: float
    end_s: float


def plan_windows(start_s: float, end_s: float, window_s: float, hop_s: float) -> list[Window]:
    """Windows every `hop_s` from `start_s`, the last ones cut at `end_s`; a recording always has at least one.

    >>> plan_windows(0.0, 2.4, 2.0, 2.0)
    [Window(start_s=0.0, end_s=2.0), Window(start_s=2.0, end_s=2.4)]
    """
    if not (window_s > 0 and hop_s > 0 and end_s >= start_s and math.isfinite(end_s - start_s)):
        raise ValueError(
            f"window and hop must be over 0 s, and end finite and after start; got {window_s}, {hop_s}, "
            f"{start_s}–{end_s}"
        )
    windows = [Window(start_s, min(start_s + window_s, end_s))]
    count = 1
    while (begin := start_s + count * hop_s) + MIN_TAIL_SHARE * window_s <= end_s:
        windows.append(Window(begin, min(begin + window_s, end_s)))
        count += 1
    return windows


def frame_times(window: Window, frames: int, window_s: float) -> NDArray[np.float64]:
    """When to sample `frames` pictures, (frames,) in seconds: the middles of equal parts of a whole window.

    The spacing is that of a whole window also where the window is cut short, so that motion keeps its speed; times
    past the cut repeat the last moment inside. A window shorter than one step is divided evenly instead: else only its
    last moment would be seen.
    """
    step_s = window_s / frames
    if window.end_s - window.start_s < step_s:
        step_s = (window.end_s - window.start_s) / frames
    times = window.start_s + (np.arange(frames, dtype=np.float64) + 0.5) * step_s
    last_s = max(window.start_s, window.end_s - 1e-3)
    return np.minimum(times, last_s)
