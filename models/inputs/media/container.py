"""Open a recording: which containers are let in, the limits, and where its time begins.

Nothing here trusts a file's name. FFmpeg gets the bytes through an object without a name, since a name's extension
steers which demuxer it picks; no protocol, so that nothing else can be opened; and an allow-list of demuxers and
software decoders.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final, Literal, NamedTuple, overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from models.inputs.media.streams import (
    SOUND_DECODERS,
    VIDEO_DECODERS,
    MediaStream,
    chosen_audio,
    chosen_video,
    has_decoder,
)
from models.inputs.media.structure import examine

Source = bytes | BinaryIO
Tick = Callable[[], None]

MediaErrorCode = Literal["unsupported_media", "unreadable_media", "too_large", "too_long"]


class MediaError(ValueError):
    """Why a recording was refused. The message is fit for the person who sent it: no path, no library's own words."""

    def __init__(self, code: MediaErrorCode, message: str) -> None:
        super().__init__(code, message)  # both, since errors of worker processes are made anew from their arguments
        self.code: MediaErrorCode = code

    def __str__(self) -> str:
        return str(self.args[1])


class DecoderEnded(MediaError):
    """The decoder itself cannot go on, with this recording or another: it crashed, hung, or used up what it may."""


@dataclass(frozen=True)
class MediaLimits:
    """What one recording may hold; over any of these it is refused as `too_large`, or `too_long`."""

    max_duration_s: float = 900.0
    max_pixels: int = 4096 * 4096
    """Width times height of one picture."""
    max_frames: int = 36_000
    max_streams: int = 16
    max_channels: int = 16
    max_sample_rate_hz: int = 384_000
    max_metadata_bytes: int = 16 << 20
    """Titles, chapters, covers and attachments together."""


# FFmpeg's demuxer → how its files begin. The pattern only tells a damaged file from a foreign one.
CONTAINERS: Final = {
    "mov": rb".{4}(ftyp|moov|moof|mdat|free|skip|wide|pnot)",  # MP4, MOV, M4A, 3GP
    "matroska": rb"\x1aE\xdf\xa3",  # and WebM
    "avi": rb"RIFF.{4}AVI ",
    "mpeg": rb"\0\0\x01\xba",  # MPEG-1 and MPEG-2 program stream
    "mpegts": rb"\x47.{187}\x47|.{4}\x47.{191}\x47",  # MPEG transport stream, also with four bytes of time code
    "ogg": rb"OggS",
    "wav": rb"(RIFF|RF64).{4}WAVE",
    "flac": rb"fLaC",
    "mp3": rb"ID3|\xff[\xe2\xe3\xf2-\xf5\xfa-\xfd]",
    "aac": rb"\xff[\xf0\xf1\xf8\xf9]",
    "amr": rb"#!AMR",
}
ACCEPTED_CONTAINERS: Final = "MP4, MOV, M4A, 3GP, Matroska, WebM, AVI, MPEG-PS, MPEG-TS, Ogg, WAV, FLAC, MP3, AAC, AMR"
ACCEPTED_PICTURES: Final = "JPEG, PNG, WebP"

_HEAD_BYTES = 512
_HEIF = re.compile(rb".{4}ftyp(hei[cxms]|mif1|msf1|avi[fs])", re.DOTALL)  # pictures in MP4's clothes
_SIGNATURE = re.compile(b"|".join(b"(?:" + pattern + b")" for pattern in CONTAINERS.values()), re.DOTALL)


class Media(NamedTuple):
    """An open recording. `origin_s` is the container's own time that counts as 0."""

    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    origin_s: float


def no_tick() -> None:
    """The default of every `tick`: go on."""


class Nameless:
    """A file object's bytes and nothing else of it: FFmpeg would read meaning into a `.name`.

    Each has a position of its own, so that picture and sound can be read from one file object in turns.
    """

    def __init__(self, source: Source) -> None:
        self._file: BinaryIO = BytesIO(source) if isinstance(source, bytes) else source
        self._at = self._file.seek(0)

    def read(self, size: int = -1) -> bytes:
        self._file.seek(self._at)
        data = self._file.read(size)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(self._at)
        self._at = self._file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at


@contextmanager
def open_media(source: Source, limits: MediaLimits, *, threads: int = 1) -> Iterator[Media]:
    """Open `source` for demuxing and decoding; it is read from its beginning, and left open.

    Raises MediaError. What the file declares is held against the limits before any decoder has run.
    """
    _check_structure(source, limits)
    with _open(source, limits, decoders=("none",)) as container:
        _check(container, limits)
    with _open(source, limits, decoders=(*VIDEO_DECODERS, *SOUND_DECODERS)) as container:
        video, audio = chosen_video(container), chosen_audio(container)
        if video is not None and video.codec_context:
            # the options given to `av.open` bound the probing only, not this decoder
            video.codec_context.options = decoder_options(limits)
            video.codec_context.thread_count = threads
            if threads > 1:
                video.codec_context.thread_type = "AUTO"
        if audio is not None and audio.codec_context:
            audio.codec_context.thread_count = 1
        yield Media(container, video, audio, _origin_s(container, video, audio))


def packets(media: Media, streams: Sequence[MediaStream], tick: Tick) -> "Iterator[Packet[Stream]]":
    """What `streams` hold, in the file's order, as far as the file can be read; `tick` once for each."""
    demuxed = media.container.demux(*streams)
    while True:
        try:
            packet = next(demuxed, None)
        except av.FFmpegError:
            return  # cut or damaged: what came before stands
        if packet is None:
            return
        if packet.size:  # the empty ones at the end only ask for a flush
            tick()
            yield packet


def decode(stream: MediaStream, packet: "Packet[Stream] | None") -> Sequence[VideoFrame | AudioFrame]:
    """What `packet` completes (None: what is still inside the decoder); nothing where it is damaged."""
    if packet is None:
        packet = Packet()
        if stream.time_base is not None:
            packet.time_base = stream.time_base  # else the last frames come out on another clock
    try:
        return stream.codec_context.decode(packet)
    except av.FFmpegError:
        return ()


@overload
def decoded(media: Media, stream: VideoStream, tick: Tick) -> Iterator[VideoFrame]: ...
@overload
def decoded(media: Media, stream: AudioStream, tick: Tick) -> Iterator[AudioFrame]: ...
def decoded(media: Media, stream: MediaStream, tick: Tick) -> Iterator[VideoFrame | AudioFrame]:
    """The stream's frames in the order of presentation, without those that cannot be decoded.

    Raises MediaError where the decoder is not one of those let in.
    """
    require_decoder(stream)
    for packet in packets(media, (stream,), tick):
        yield from decode(stream, packet)
    yield from decode(stream, None)


def require_decoder(stream: MediaStream) -> None:
    """Raise MediaError unless the stream's decoder is in the list."""
    if not has_decoder(stream):
        name = stream.codec_context.name if stream.codec_context else "unknown"
        raise MediaError(
            "unsupported_media",
            f"the {stream.type} codec {name!r} is not accepted; convert the recording, for instance to H.264 with AAC",
        )


@contextmanager
def _open(source: Source, limits: MediaLimits, decoders: Sequence[str]) -> Iterator[InputContainer]:
    file = Nameless(source)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if _HEIF.match(head):
        raise MediaError("unsupported_media", f"HEIC and AVIF pictures are not accepted; send {ACCEPTED_PICTURES}")
    restrictions = {
        "format_whitelist": ",".join(CONTAINERS),
        "codec_whitelist": ",".join(decoders),
        "protocol_whitelist": "none",
    }
    try:
        container = av.open(
            file,
            "r",
            options=decoder_options(limits),
            container_options=restrictions,
            metadata_errors="replace",  # a title in Latin-1 is no reason to refuse a film
        )
    except av.FFmpegError:
        raise _refusal(head) from None
    with container:
        yield container


def _refusal(head: bytes) -> MediaError:
    if _SIGNATURE.match(head):
        return MediaError("unreadable_media", "the file is cut short or damaged: nothing in it can be read")
    return MediaError(
        "unsupported_media",
        f"the content is not one of the accepted formats: {ACCEPTED_CONTAINERS}; pictures: {ACCEPTED_PICTURES}",
    )


def _check_structure(source: Source, limits: MediaLimits) -> None:
    """Hold what the file's headers say against the limits, before FFmpeg takes memory for it."""
    structure = examine(Nameless(source))
    if structure.refers_elsewhere:
        raise MediaError(
            "unsupported_media",
            "the recording's pictures or sound lie in another file, which is not accepted; save it with everything in "
            "one file",
        )
    refuse_over("bytes of metadata", structure.metadata_bytes, limits.max_metadata_bytes)
    refuse_over("frames", structure.frames, limits.max_frames)


def _check(container: InputContainer, limits: MediaLimits) -> None:
    """Hold what the container declares against the limits."""
    tagged: list[InputContainer | Stream] = [container, *container.streams]
    metadata = sum(len(key) + len(value) for one in tagged for key, value in one.metadata.items())
    refuse_over("bytes of metadata", metadata, limits.max_metadata_bytes)
    refuse_over("streams", len(container.streams), limits.max_streams)
    for video in container.streams.video:
        if video.codec_context:  # None where FFmpeg has no decoder at all
            refuse_over("pixels a picture", video.width * video.height, limits.max_pixels)
    for audio in container.streams.audio:
        if audio.codec_context:
            refuse_over("channels", audio.channels, limits.max_channels)
            refuse_over("samples a second", audio.rate, limits.max_sample_rate_hz)


def decoder_options(limits: MediaLimits) -> dict[str, str]:
    """FFmpeg's own limit: it bounds memory before a picture exists; `refuse_over` is exact, after.

    FFmpeg counts rows as it stores them, up to a multiple of 64 pixels, so its limit has to be wider than ours.
    """
    return {"max_pixels": str(2 * limits.max_pixels + 64 * 64)}


def refuse_over(what: str, value: int, limit: int) -> None:
    """Raise MediaError `too_large`, with both numbers and what to do."""
    if value > limit:
        raise MediaError(
            "too_large",
            f"the recording has {value} {what}; at most {limit} are accepted: save it with fewer, or send a part of it",
        )


def _origin_s(container: InputContainer, video: VideoStream | None, audio: AudioStream | None) -> float:
    """Where the first thing shown or heard lies on the container's clock.

    Codecs prime their sound: such a track starts some milliseconds before 0, and those samples are never heard.
    """
    starts = [float(s.start_time * s.time_base) for s in (video,) if s and s.start_time is not None and s.time_base]
    starts += [
        max(0.0, float(s.start_time * s.time_base)) for s in (audio,) if s and s.start_time is not None and s.time_base
    ]
    if starts:
        return min(starts)
    return (container.start_time or 0) / av.time_base
