"""Which frame is shown when, how it is turned, and what damage does."""

import io
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from models.inputs.media.media import MediaError, MediaLimits, frame_times, frames_at, probe
from models.inputs.media.orientation import frame_orientation

from ..odd.drawing import TURNS

LIMITS = MediaLimits()

FORMATS = [
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx265", "yuv420p10le"),
    ("mp4", "libsvtav1", "yuv420p"),
    ("mov", "prores_ks", "yuv422p10le"),
    ("matroska", "libx264", "yuv444p"),
    ("webm", "libvpx", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("mpegts", "libx264", "yuv420p"),
    ("mpegts", "mpeg2video", "yuv420p"),
    ("mpeg", "mpeg1video", "yuv420p"),
]
FORMAT_IDS = ["-".join(f[:2]) for f in FORMATS]


@pytest.fixture(scope="module")
def numbered(barcode, write_video):
    """numbered(count, ...): a video whose frame i carries the number i."""

    def write(count, *args, **kwargs):
        return write_video([barcode(i) for i in range(count)], *args, **kwargs)

    return write


@pytest.mark.parametrize(("container", "codec", "pix_fmt"), FORMATS, ids=FORMAT_IDS)
def test_every_frame_is_found_at_its_own_time(container, codec, pix_fmt, numbered, read_barcode):
    video = numbered(20, container, codec, pix_fmt)

    times_s = frame_times(video, LIMITS)
    frames = list(frames_at(video, list(times_s), LIMITS))

    assert times_s == pytest.approx(np.arange(20) / 25, abs=0.002)
    assert [f.time_s for f in frames] == pytest.approx(times_s, abs=1e-9)
    assert [read_barcode(f.rgb) for f in frames] == list(range(20))
    assert {(f.rgb.shape, f.rgb.dtype) for f in frames} == {((48, 80, 3), np.dtype(np.uint8))}


def test_the_frame_shown_is_the_last_one_whose_time_has_come(numbered, read_barcode):
    video = numbered(10)  # at 0, 40, ... 360 ms

    frames = list(frames_at(video, [-1.0, 0.0, 0.039, 0.0396, 0.1, 0.359, 0.36, 7.0], LIMITS))

    assert [read_barcode(f.rgb) for f in frames] == [0, 0, 0, 1, 2, 8, 9, 9]


def test_times_that_fall_on_one_frame_share_its_array(numbered):
    first, second, third = frames_at(numbered(5), [0.041, 0.05, 0.09], LIMITS)

    assert first.rgb is second.rgb
    assert third.rgb is not second.rgb


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_a_variable_frame_rate_keeps_its_gaps(container, numbered, read_barcode):
    times_ms = [0, 40, 500, 520, 1500]
    video = numbered(5, container, times_ms=times_ms)

    frames = frames_at(video, [0.03, 0.04, 0.499, 0.5, 0.53, 1.49, 1.5], LIMITS)

    assert [read_barcode(f.rgb) for f in frames] == [0, 1, 1, 2, 3, 3, 4]
    assert frame_times(video, LIMITS) == pytest.approx(np.array(times_ms) / 1000, abs=1e-3)
    assert probe(video, LIMITS).fps == pytest.approx(4 / 1.5, abs=0.01)


ALL_TURNS = {"upright": ((1, 0, 0, 1), "RG BW"), **TURNS}


@pytest.mark.parametrize(("matrix", "displayed"), ALL_TURNS.values(), ids=ALL_TURNS)
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_frames_are_turned_and_mirrored_as_they_are_displayed(
    container, matrix, displayed, corners, read_corners, write_video
):
    video = write_video([corners(48, 64)] * 3, container, matrix=matrix)

    (frame,) = frames_at(video, [0.05], LIMITS)
    info = probe(video, LIMITS)

    assert read_corners(frame.rgb) == displayed
    assert (info.height, info.width) == frame.rgb.shape[:2] == ((64, 48) if matrix[0] == 0 else (48, 64))
    assert frame.rgb.flags.c_contiguous


def test_a_turn_is_kept_beside_side_data_without_a_name(corners, read_corners, write_picture):
    """Motion JPEG with EXIF in its frames: PyAV knows no name for that kind of side data."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    jpeg = write_picture(corners(), "mjpeg", "yuvj444p")
    jpeg = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj444p"
        packet = av.Packet(jpeg)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        packet.time_base = Fraction(1, 25)
        output.mux(packet)

    (frame,) = frames_at(file.getvalue(), [0.0], LIMITS)

    assert read_corners(frame.rgb) == "BR WG"


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx264", "yuv444p"), ("libx264", "yuv420p10le"), ("libx264", "yuv444p10le"), ("libx265", "yuv422p10le")],
)
def test_deep_and_full_chroma_video_keeps_its_colours(codec, pix_fmt, corners, write_video):
    # ten pictures: where there is only one, libx265 now and then fails to write it
    video = write_video([corners(64, 64)] * 10, "mp4", codec, pix_fmt, options={"crf": "1"})

    (frame,) = frames_at(video, [0.0], LIMITS)

    assert np.abs(frame.rgb.astype(int) - corners(64, 64)).mean() < 6


def test_odd_sizes_are_whole(corners, read_corners, write_video):
    video = write_video([corners(27, 35)], "mp4", "libx264", "yuv444p")

    (frame,) = frames_at(video, [0.0], LIMITS)

    assert frame.rgb.shape == (27, 35, 3)
    assert read_corners(frame.rgb) == "RG BW"


def test_grey_video_has_three_equal_channels(numbered, read_barcode):
    (frame,) = frames_at(numbered(7, "mp4", "libx264", "gray"), [9.0], LIMITS)

    assert read_barcode(frame.rgb) == 6
    assert np.ptp(frame.rgb, axis=2).max() <= 1


def test_bt709_colours_are_converted_as_tagged(write_video):
    red = np.full((48, 64, 3), (200, 30, 30), np.uint8)
    video = write_video([red], "mp4", "libx264", "yuv444p", bt709=True, options={"crf": "1"})

    (frame,) = frames_at(video, [0.0], LIMITS)

    assert np.abs(frame.rgb.reshape(-1, 3).mean(axis=0) - (200, 30, 30)).max() < 4


@pytest.mark.parametrize("start_s", [0, 26_000])
def test_a_transport_stream_starts_at_zero_whatever_its_clock_says(start_s, numbered, read_barcode):
    video = numbered(10, "mpegts", start_s=start_s)

    frames = list(frames_at(video, [0.0, 0.2], LIMITS))

    assert [f.time_s for f in frames] == pytest.approx([0.0, 0.2])
    assert [read_barcode(f.rgb) for f in frames] == [0, 5]
    assert probe(video, LIMITS).duration_s == pytest.approx(0.4)


LONG = [
    ("mp4", "libx264", {"g": "20", "bf": "3"}),
    ("matroska", "libx264", {"g": "20", "bf": "3", "x264-params": "open-gop=1"}),
    ("mp4", "libx265", {"x265-params": "log-level=none:keyint=20:open-gop=1"}),
    ("webm", "libvpx-vp9", {"g": "20", "deadline": "realtime"}),
    ("avi", "mpeg4", {"g": "20"}),
    ("mpegts", "libx264", {"g": "20", "bf": "3", "x264-params": "open-gop=1"}),
    ("mpegts", "mpeg2video", {"g": "12", "bf": "2"}),
    ("mpeg", "mpeg2video", {"g": "12", "bf": "2"}),
    ("mpeg", "mpeg1video", {"g": "12", "bf": "2"}),
]


@pytest.mark.parametrize(("container", "codec", "options"), LONG, ids=["-".join(f[:2]) for f in LONG])
def test_a_jump_far_in_shows_what_decoding_from_the_start_shows(container, codec, options, numbered, read_barcode):
    video = numbered(300, container, codec, options=options)  # 12 s
    times_s = [9.0, 9.04, 9.5, 10.02, 11.96]
    ticks_jumping, ticks_whole = [], []

    jumped = list(frames_at(video, times_s, LIMITS, tick=lambda: ticks_jumping.append(1)))
    _, *whole = frames_at(video, [0.0, *times_s], LIMITS, tick=lambda: ticks_whole.append(1))

    assert [read_barcode(f.rgb) for f in jumped] == [225, 226, 237, 250, 299]
    assert [f.time_s for f in jumped] == [f.time_s for f in whole]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(jumped, whole, strict=True))
    assert len(ticks_jumping) < len(ticks_whole) * 0.7


def test_where_the_only_key_frame_is_the_first_the_whole_video_is_decoded(numbered, read_barcode):
    video = numbered(250, "mpegts", options={"g": "1000", "sc_threshold": "0"})

    frames = frames_at(video, [8.0, 9.0], LIMITS)

    assert [read_barcode(f.rgb) for f in frames] == [200, 225]


def test_decoding_stops_soon_after_the_last_time(numbered):
    ticks = []

    list(frames_at(numbered(200, options={"bf": "0"}), [0.0, 0.2], LIMITS, tick=lambda: ticks.append(1)))

    assert 6 <= len(ticks) <= 20


def test_a_tick_that_raises_ends_the_work(numbered):
    def out_of_time():
        raise TimeoutError("deadline")

    with pytest.raises(TimeoutError, match="deadline"):
        list(frames_at(numbered(5), [0.0], LIMITS, tick=out_of_time))


def test_more_threads_decode_the_same_frames(numbered):
    video = numbered(30)
    times_s = [i / 25 for i in range(30)]

    one, two = (list(frames_at(video, times_s, LIMITS, threads=threads)) for threads in (1, 2))

    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(one, two, strict=True))


def test_a_damaged_stretch_leaves_the_frame_before_it_on_show(numbered, read_barcode):
    video = numbered(30, "avi", "mjpeg", "yuvj420p")
    starts = [i for i in range(len(video)) if video.startswith(b"\xff\xd8\xff", i)]
    broken = bytearray(video)
    for at in starts[10:13]:
        broken[at : at + 600] = b"\0" * 600

    frames = frames_at(bytes(broken), [0.36, 0.40, 0.48, 0.52], LIMITS)

    assert [read_barcode(f.rgb) for f in frames] == [9, 9, 9, 13]


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [("matroska", "libx264", "yuv420p"), ("avi", "mjpeg", "yuvj420p"), ("mpegts", "libx264", "yuv420p")],
)
def test_a_file_cut_in_the_middle_yields_what_came_before(container, codec, pix_fmt, numbered, read_barcode):
    video = numbered(100, container, codec, pix_fmt, options={"g": "10"})
    cut = video[: len(video) // 2]

    info = probe(cut, LIMITS)
    first, last = frames_at(cut, [0.0, 10.0], LIMITS)

    assert read_barcode(first.rgb) == 0
    assert 20 < read_barcode(last.rgb) < 80
    assert info.duration_s == pytest.approx(last.time_s, abs=0.2)


def test_the_last_frames_survive_a_cut(numbered, read_barcode):
    """The frames that wait inside the decoder for their order come out although the file has no proper end."""
    video = numbered(40, "matroska", options={"bf": "3", "g": "40"})
    cut = video[: int(len(video) * 0.9)]
    times_s = frame_times(cut, LIMITS)

    numbers = [read_barcode(f.rgb) for f in frames_at(cut, list(times_s), LIMITS)]

    assert len(times_s) > 20
    assert numbers[-1] >= len(times_s) - 1


def test_a_video_with_more_frames_than_the_limit_is_refused(numbered):
    limits = MediaLimits(max_frames=10)

    with pytest.raises(MediaError, match="10") as refusal:
        list(frames_at(numbered(11), [1.0], limits))

    assert refusal.value.code == "too_large"


def test_frames_of_a_sound_file_are_refused(write_sound, tone):
    with pytest.raises(MediaError, match="no video track") as refusal:
        list(frames_at(write_sound(tone(440, 0.2, 8000), 8000), [0.0], LIMITS))

    assert refusal.value.code == "unreadable_media"
    assert len(frame_times(write_sound(tone(440, 0.2, 8000), 8000), LIMITS)) == 0


@pytest.mark.parametrize("times_s", [[0.2, 0.1], [float("nan")], [float("inf")]])
def test_times_that_do_not_ascend_are_a_mistake_of_the_caller(times_s, numbered):
    with pytest.raises(ValueError, match="ascending"):
        list(frames_at(numbered(2), times_s, LIMITS))


def test_no_times_yield_no_frames():
    assert list(frames_at(b"", [], LIMITS)) == []


def test_asking_how_a_frame_is_turned_does_not_keep_it(numbered):
    """Else dozens of frames stay in memory until the garbage collector comes by."""
    with av.open(io.BytesIO(numbered(1))) as container:
        frame = next(container.decode(video=0))
    held = sys.getrefcount(frame)
    frame_orientation(frame)

    assert sys.getrefcount(frame) == held
