"""Which codecs are let in, and which of several video or audio streams is read."""

from typing import Final, TypeVar

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

MediaStream = VideoStream | AudioStream
S = TypeVar("S", VideoStream, AudioStream)

# FFmpeg's names of decoders: all of them run in software
VIDEO_DECODERS: Final = (
    *("h264", "hevc", "vp8", "vp9", "libdav1d"),
    *("mpeg4", "mpeg1video", "mpeg2video", "h263", "theora"),
    *("mjpeg", "prores"),
)
SOUND_DECODERS: Final = (
    *("aac", "mp3", "mp3float", "mp2", "mp2float", "mp1", "mp1float", "opus", "libopus", "vorbis"),
    *("flac", "alac", "ac3", "eac3", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb"),
    *("pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)


def has_decoder(stream: MediaStream) -> bool:
    """Whether the stream's decoder is one of those let in; FFmpeg has none at all for some codecs."""
    return bool(stream.codec_context) and stream.codec_context.name in (*VIDEO_DECODERS, *SOUND_DECODERS)


def chosen_video(container: InputContainer) -> VideoStream | None:
    """The video track to read; the cover picture of a sound file is none."""
    films = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return chosen(films, best if isinstance(best, VideoStream) else None)


def chosen_audio(container: InputContainer) -> AudioStream | None:
    """The sound track to read."""
    best = container.streams.best("audio")
    return chosen(list(container.streams.audio), best if isinstance(best, AudioStream) else None)


def chosen(streams: list[S], best: S | None) -> S | None:
    """FFmpeg's best one: the default track, then the one with more data. Where its codec is not let in, the first
    track whose codec is; where there is none, it is what the refusal names."""
    ranked = sorted(streams, key=lambda stream: stream is not best)
    return next(filter(has_decoder, ranked), next(iter(ranked), None))
