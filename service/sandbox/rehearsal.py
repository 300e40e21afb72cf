"""A film of our own, which is read before a stranger's: whatever reading one writes to is a child's own memory by then.

A fork shares its pages until one is written to, and each of these costs microseconds. Reading any recording writes to a
thousand of them, mostly for counts of references to Python's objects.
"""

import io
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from models.inputs.media import media
from models.inputs.media.media import MediaLimits

SIDE: Final = 64
FRAMES: Final = 4
FRAMES_A_SECOND: Final = 25
RATE_HZ: Final = 48_000
HEARD_RATE_HZ: Final = 16_000


def film() -> bytes:
    """A black picture and silence."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        video = output.add_stream("mpeg4", rate=FRAMES_A_SECOND)
        audio = output.add_stream("aac", rate=RATE_HZ, layout="mono")
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        video.codec_context.thread_count = 1
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.zeros((SIDE * 3 // 2, SIDE), np.uint8), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_A_SECOND)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, RATE_HZ * FRAMES // FRAMES_A_SECOND), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate, silence.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        output.mux(audio.encode(silence))
        output.mux(audio.encode())
    return file.getvalue()


def read(recording: bytes) -> None:
    """Pictures and sound, by the way that every recording goes."""
    limits = MediaLimits()
    for _ in media.frames_at(recording, [0.0, (FRAMES - 1) / FRAMES_A_SECOND], limits):
        pass
    for _ in media.sound_pieces(recording, HEARD_RATE_HZ, limits):
        pass
