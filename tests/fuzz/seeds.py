"""Small valid recordings, encoded on the spot: one of each container, with a drawn face and a drawn voice in them."""

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal, NamedTuple

import av
import numpy as np
from av.codec.context import CodecContext
from numpy.typing import NDArray

from training.corpora.affect_model import SyntheticAffect, affect_expression, draw_affect
from training.corpora.drawn_head import head_texture
from training.corpora.drawn_voice import VOICE_HZ, speak
from training.corpora.synthetic import record

FPS: Final = 25
FRAMES: Final = 15
SIZE_PX: Final = 160
SOUND_S: Final = 0.8

Field = Literal["video", "audio", "frames"]
Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]


class Seed(NamedTuple):
    """A recording, and the field of a form that it belongs to."""

    name: str
    field: Field
    content: bytes


class Film(NamedTuple):
    """How a recording is to be encoded; codecs by FFmpeg's names."""

    container: str
    picture: str | None
    sound: str | None
    sound_hz: int = 16_000
    options: Mapping[str, str] = {}


FILMS: Final[Mapping[str, Film]] = {
    "mp4": Film("mp4", "libx264", "aac"),
    "fragmented": Film("mp4", "libx264", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "mov": Film("mov", "prores", "pcm_s16be"),
    "3gp": Film("3gp", "mpeg4", "libopencore_amrnb", 8_000),
    "mkv": Film("matroska", "libx264", "flac"),
    "webm": Film("webm", "libvpx", "libopus", 48_000),
    "avi": Film("avi", "mpeg4", "libmp3lame"),
    "motion-jpeg": Film("avi", "mjpeg", "pcm_s16le"),
    "ts": Film("mpegts", "libx264", "aac"),
    "ps": Film("mpeg", "mpeg2video", "mp2"),
    "opus": Film("ogg", None, "libopus", 48_000),
    "wav": Film("wav", None, "pcm_s16le"),
    "flac": Film("flac", None, "flac"),
    "mp3": Film("mp3", None, "libmp3lame"),
    "adts": Film("adts", None, "aac"),
    "m4a": Film("ipod", None, "alac"),
    "amr": Film("amr", None, "libopencore_amrnb", 8_000),
}
PICTURES: Final[Mapping[str, tuple[str, str]]] = {
    "jpeg": ("mjpeg", "yuvj420p"),
    "png": ("png", "rgb24"),
    "webp": ("libwebp", "yuv420p"),
}


def make_seeds() -> list[Seed]:
    """One of each; the same ones every time."""
    pictures, voice = drawn()
    films = [
        Seed(name, "video" if film.picture else "audio", encode(film, pictures, voice)) for name, film in FILMS.items()
    ]
    return films + [Seed(name, "frames", encode_picture(pictures[0], *form)) for name, form in PICTURES.items()]


def drawn() -> tuple[list[Picture], Floats]:
    """FRAMES pictures (SIZE_PX, SIZE_PX, 3) of a face, and its voice (samples,) at VOICE_HZ."""
    settings, rng = SyntheticAffect(video_s=2.0), np.random.default_rng(0)
    affect = draw_affect(settings, 0)
    units = affect_expression(rng, settings, affect, np.arange(FRAMES, dtype=np.float32) / FPS)
    pictures = record(rng, affect.identity, head_texture(affect.identity), units, SIZE_PX, restlessness=1.0)
    return list(pictures), speak(rng, affect)[: round(SOUND_S * VOICE_HZ)]


def encode(film: Film, pictures: Sequence[Picture], voice: Floats) -> bytes:
    """The recording's bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format=film.container, options=dict(film.options)) as output:
        hurry = {"deadline": "realtime", "cpu-used": "8"} if film.picture == "libvpx" else {}
        video = output.add_stream(film.picture, rate=FPS, options=hurry) if film.picture else None
        sound = output.add_stream(film.sound, rate=film.sound_hz, layout="mono") if film.sound else None
        if video is not None:
            video.height = video.width = SIZE_PX if film.container != "3gp" else 128
            video.pix_fmt = {"prores": "yuv422p10le", "mjpeg": "yuvj420p"}.get(str(film.picture), "yuv420p")
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                output.mux(video.encode(frame))
            output.mux(video.encode())
        if sound is not None:
            size = sound.codec_context.frame_size or 1024
            convert = av.AudioResampler(sound.codec_context.format.name, "mono", film.sound_hz, size)
            given = av.AudioFrame.from_ndarray(voice.reshape(1, -1), format="flt", layout="mono")
            given.sample_rate, given.pts, given.time_base = VOICE_HZ, 0, Fraction(1, VOICE_HZ)
            for part in [*convert.resample(given), *convert.resample(None)]:
                output.mux(sound.encode(part))
            output.mux(sound.encode())
    return file.getvalue()


def encode_picture(rgb: Picture, codec: str, pix_fmt: str) -> bytes:
    encoder = CodecContext.create(codec, "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt, encoder.time_base = pix_fmt, Fraction(1, FPS)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
    frame.pts, frame.time_base = 0, Fraction(1, FPS)
    return b"".join(bytes(packet) for packet in encoder.encode(frame) + encoder.encode(None))
