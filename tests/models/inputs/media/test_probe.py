"""What is let in, what is refused and with which code, and what is told about a recording."""

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inputs.media.media import MediaError, MediaInfo, MediaLimits, frame_times, frames_at, probe, read_sound

LIMITS = MediaLimits()


def refusal(source, limits=LIMITS):
    with pytest.raises(MediaError) as caught:
        probe(source, limits)
    return caught.value


@pytest.fixture(scope="module")
def clip(barcode, write_video):
    """Half a second of H.264 in MP4."""
    return write_video([barcode(i) for i in range(12)])


@pytest.fixture(scope="module")
def talking_clip(barcode, write_sound, tone):
    """Half a second of picture, a whole one of sound."""
    return write_sound(tone(440, 1.0, 44100), 44100, "mp4", "aac", with_pictures=[barcode(i) for i in range(12)])


@pytest.fixture(scope="module")
def talking_file(talking_clip):
    """The same as a file object, which hypothesis prints in one line."""
    return io.BytesIO(talking_clip)


def test_a_silent_film_is_described(clip):
    assert probe(clip, LIMITS) == MediaInfo(
        duration_s=pytest.approx(0.48), fps=pytest.approx(25), width=80, height=48, has_video=True, has_audio=False
    )


def test_the_longer_of_picture_and_sound_is_the_duration(talking_clip):
    info = probe(talking_clip, LIMITS)

    assert info.duration_s == pytest.approx(1.0, abs=0.03)
    assert (info.has_video, info.has_audio) == (True, True)


def test_sound_alone_has_no_size_and_no_rate(write_sound, tone):
    info = probe(write_sound(tone(440, 0.5, 8000), 8000), LIMITS)

    assert info == MediaInfo(pytest.approx(0.5), None, None, None, has_video=False, has_audio=True)


def test_a_video_of_one_frame_has_a_length_but_no_rate(barcode, write_video):
    info = probe(write_video([barcode(1)]), LIMITS)

    assert info.duration_s == pytest.approx(0.04)
    assert info.fps is None


def test_a_picture_counts_as_a_frame_whatever_its_file_is_called(barcode, write_picture):
    class NamedFile(io.BytesIO):
        name = "holiday.mp4"

    picture = NamedFile(write_picture(barcode(5), "mjpeg", "yuvj444p"))

    info = probe(picture, LIMITS)
    frames = list(frames_at(picture, [0.0, 1.0], LIMITS))

    assert info == MediaInfo(0.04, None, 80, 48, has_video=True, has_audio=False)
    assert [f.time_s for f in frames] == [0.0, 0.0]
    assert frame_times(picture, LIMITS).tolist() == [0.0]
    assert read_sound(picture, 16000, LIMITS) is None


def test_a_file_s_name_does_not_steer_how_it_is_read(clip):
    class NamedFile(io.BytesIO):
        name = "f%02d.jpg"

    assert probe(NamedFile(clip), LIMITS) == probe(clip, LIMITS)


def test_a_file_is_read_from_its_beginning_in_small_parts_and_left_open(talking_clip):
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size=-1):
            assert size is not None
            assert size >= 0
            self.largest = max(self.largest, size)
            return super().read(size)

    file = Watched(talking_clip)
    file.seek(100)

    first, second = probe(file, LIMITS), probe(file, LIMITS)

    assert first == second == probe(talking_clip, LIMITS)
    assert file.largest <= 1 << 16
    assert not file.closed


FOREIGN = {
    "nothing": b"",
    "noise": np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes(),
    "text": b"hello world\n" * 50,
    "html": b"<!DOCTYPE html><html><body><video src='x.mp4'></video></body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>",
    "hls playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "dash manifest": b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'></MPD>",
    "concat script": b"ffconcat version 1.0\nfile /etc/hostname\n",
    "session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    "gif": b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "zip": b"PK\x03\x04" + b"\0" * 200,
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_accepted_recording_is_unsupported(content):
    refused = refusal(content)

    assert refused.code == "unsupported_media"
    assert "accepted" in str(refused)
    assert "JPEG" in str(refused)


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"), [("matroska", "ffv1", "yuv420p"), ("avi", "rawvideo", "yuv420p")]
)
def test_a_codec_that_is_not_let_in_is_named(container, codec, pix_fmt, barcode, write_video):
    refused = refusal(write_video([barcode(1)] * 3, container, codec, pix_fmt))

    assert refused.code == "unsupported_media"
    assert codec in str(refused)


def test_a_codec_that_nobody_knows_is_unsupported(clip):
    assert refusal(clip.replace(b"avc1", b"zzzz")).code == "unsupported_media"


def test_a_title_that_is_not_utf8_is_no_reason_to_refuse(clip):
    assert b"Lavf62" in clip

    assert probe(clip.replace(b"Lavf62", b"Caf\xe9\xff\x80"), LIMITS) == probe(clip, LIMITS)


def test_sound_in_a_foreign_codec_is_refused_only_where_it_is_asked_for(barcode, write_sound, tone):
    file = write_sound(tone(440, 0.3, 16000), 16000, "matroska", "tta", with_pictures=[barcode(1)] * 5)

    assert probe(file, LIMITS).has_audio
    assert len(list(frames_at(file, [0.1], LIMITS))) == 1
    with pytest.raises(MediaError, match="tta") as caught:
        read_sound(file, 16000, LIMITS)
    assert caught.value.code == "unsupported_media"


def test_a_movie_cut_before_its_index_is_unreadable(clip):
    refused = refusal(clip[: len(clip) // 2])

    assert refused.code == "unreadable_media"


@pytest.mark.parametrize("samples", [0, 1])
def test_a_recording_with_nothing_in_it_is_unreadable(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(b"\0\0" * samples)

    if samples:
        assert probe(file, LIMITS).has_audio
    else:
        assert refusal(file).code == "unreadable_media"


def test_a_recording_without_picture_and_sound_tracks_is_unreadable(barcode, write_video):
    video = write_video([barcode(1)] * 5, "avi", "mjpeg", "yuvj420p")

    assert refusal(video.replace(b"vids", b"zzzz")).code == "unreadable_media"


LARGE = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "transport stream": ("mpegts", "mpeg2video", "yuv420p"),
    "program stream": ("mpeg", "mpeg1video", "yuv420p"),
}


@pytest.mark.parametrize("form", LARGE.values(), ids=LARGE)
def test_too_many_pixels_are_refused_with_both_numbers(form, barcode, write_video):
    video = write_video([barcode(1, 320, 240)] * 3, *form)

    refused = refusal(video, MediaLimits(max_pixels=320 * 239))

    assert refused.code == "too_large"
    assert str(320 * 240) in str(refused)
    assert str(320 * 239) in str(refused)
    assert probe(video, MediaLimits(max_pixels=320 * 240)).width == 320


def test_a_size_that_the_container_hides_does_not_get_past_the_decoder(barcode, write_video):
    video = write_video([barcode(1, 640, 480)] * 3, "webm", "libvpx-vp9")
    width, height = b"\xb0\x82\x02\x80", b"\xba\x82\x01\xe0"  # Matroska's PixelWidth and PixelHeight
    assert width in video
    lying = video.replace(width, b"\xb0\x82\x00\x20").replace(height, b"\xba\x82\x00\x20")

    assert refusal(lying, MediaLimits(max_pixels=640 * 480 - 1)).code == "too_large"
    assert refusal(lying, MediaLimits(max_pixels=320 * 240)).code == "unreadable_media"


def test_a_long_recording_is_refused_with_both_numbers(barcode, write_video):
    video = write_video([barcode(i) for i in range(3)], "matroska", times_ms=[0, 40, 11_000])

    refused = refusal(video, MediaLimits(max_duration_s=10))

    assert refused.code == "too_long"
    assert "11.0 s" in str(refused)
    assert "10 s" in str(refused)


def test_many_frames_are_refused(clip):
    refused = refusal(clip, MediaLimits(max_frames=11))

    assert refused.code == "too_large"
    assert str(refused).endswith("has 12 frames; at most 11 are accepted: save it with fewer, or send a part of it")
    assert probe(clip, MediaLimits(max_frames=12)).has_video


def test_many_streams_are_refused(write_sound, tone):
    file = write_sound(tone(440, 0.1, 8000), 8000, "matroska", "pcm_s16le", tracks=5)

    refused = refusal(file, MediaLimits(max_streams=4))

    assert refused.code == "too_large"
    assert "5 streams" in str(refused)


@pytest.mark.parametrize(
    ("limits", "value"), [(MediaLimits(max_channels=5), "6 channels"), (MediaLimits(max_sample_rate_hz=44100), "48000")]
)
def test_many_channels_or_samples_are_refused(limits, value, write_sound):
    file = write_sound(np.zeros((4800, 6)), 48000, "wav", "pcm_f32le", "5.1")

    refused = refusal(file, limits)

    assert refused.code == "too_large"
    assert value in str(refused)


def test_a_declared_duration_is_not_believed(barcode, write_video):
    video = write_video([barcode(i) for i in range(25)], "matroska")
    declared = video.index(b"\x44\x89\x88")  # Matroska's Duration, in ms
    lying = video[: declared + 3] + struct.pack(">d", 3.6e9) + video[declared + 11 :]
    assert lying != video

    assert probe(lying, LIMITS).duration_s == pytest.approx(1.0, abs=0.01)


def test_a_cover_picture_is_no_video(write_sound, write_picture, barcode, tone):
    jpeg = write_picture(barcode(1), "mjpeg", "yuvj444p")
    frame = b"\0image/jpeg\0\x03\0" + jpeg
    frame = b"APIC" + struct.pack(">I", len(frame)) + b"\0\0" + frame
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    mp3 = b"ID3\x03\0\0" + size + frame + write_sound(tone(440, 0.5, 44100), 44100, "mp3", "libmp3lame")

    info = probe(mp3, LIMITS)

    assert (info.has_video, info.has_audio, info.width) == (False, True, None)


def test_a_tick_is_called_for_every_packet(clip):
    ticks = []

    frame_times(clip, LIMITS, tick=lambda: ticks.append(1))

    assert len(ticks) == 12


@settings(max_examples=120)
@given(
    kept=st.floats(0, 1) | st.just(1.0),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
)
def test_damage_anywhere_is_refused_in_order_or_survived(kept, changes, talking_file):
    """No other exception than MediaError, and no number that is not finite."""
    broken = bytearray(talking_file.getvalue())
    del broken[round(kept * len(broken)) :]
    for place, value in changes:
        if broken:
            broken[int(place * len(broken))] = value

    try:
        info = probe(bytes(broken), LIMITS)
        if info.has_video:
            assert len(list(frames_at(bytes(broken), [0.0, info.duration_s], LIMITS))) == 2
        sound = read_sound(bytes(broken), 16000, LIMITS) if info.has_audio else None
    except MediaError:
        return
    assert 0 < info.duration_s <= LIMITS.max_duration_s
    assert sound is None or np.isfinite(sound).all()
