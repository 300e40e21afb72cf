"""Writing a recording: H.264 video, and AAC sound where there is any, in an MP4 file."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    rate_hz: int,
    size_px: int,
    *,
    sound: NDArray[np.float32] | None = None,
    sound_hz: int = 16000,
) -> None:
    """Encode RGB `frames` (size, size, 3) at a constant rate, and mono `sound` in [-1, 1].

    One thread and the fastest preset: many files are written at once.
    """
    with av.open(path, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=rate_hz, options={"preset": "ultrafast", "crf": "22"})
        video.width = video.height = size_px
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        if sound is not None:
            audio = container.add_stream("aac", rate=sound_hz, layout="mono")
            audio.bit_rate = 48_000
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        if sound is not None:
            for start in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate = sound_hz
                block.pts, block.time_base = start, Fraction(1, sound_hz)
                container.mux(audio.encode(block))
            container.mux(audio.encode())
