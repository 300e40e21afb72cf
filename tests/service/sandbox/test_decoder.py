"""What comes out of a child is, bit for bit, what the same code gives in this process."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from models.inputs.media import media
from models.inputs.media.media import MediaError, MediaLimits
from models.inputs.prepare import Recording, prepare
from models.spec import InputSpec, LogMelSpec
from service.sandbox import wire
from service.sandbox.conversation import handed_over
from service.sandbox.ring import SLOTS, Ring, slot_bytes_for
from service.uploads.piece_reader import PieceReader

LIMITS = MediaLimits()
LEFT_S = 60.0


def assert_equal(sandbox, source, limits=LIMITS):
    facts = media.probe(source, limits)
    times_s = list(np.arange(0.0, facts.duration_s, 0.15)) if facts.has_video else []
    with sandbox.decoder(LEFT_S) as decoder:
        assert decoder.probe(source, limits) == facts
        ours, theirs = media.frames_at(source, times_s, limits), decoder.frames_at(source, times_s, limits)
        for inside, outside in zip(theirs, ours, strict=True):
            assert inside.time_s == outside.time_s
            np.testing.assert_array_equal(inside.rgb, outside.rgb)
        sound = whole(decoder.sound_pieces(source, 16_000, limits))
        assert (len(sound) > 0) == facts.has_audio
        np.testing.assert_array_equal(sound, whole(media.sound_pieces(source, 16_000, limits)))


def whole(pieces):
    return np.concatenate([np.zeros(0, np.float32), *pieces])


@pytest.mark.parametrize("name", ["single_face.mp4", "no_face.mp4", "face_noface.mov", "single_face.jpg"])
def test_real_recordings_are_decoded_alike(sandbox, clips: Path, name: str):
    assert_equal(sandbox, (clips / name).read_bytes())


VIDEOS = {
    "h264": ("mp4", "libx264", "yuv420p"),
    "h264, 10 bit": ("mp4", "libx264", "yuv420p10le"),
    "h264, 4:4:4": ("matroska", "libx264", "yuv444p"),
    "hevc": ("mp4", "libx265", "yuv420p"),
    "vp8": ("webm", "libvpx", "yuv420p"),
    "vp9": ("webm", "libvpx-vp9", "yuv420p"),
    "av1": ("webm", "libsvtav1", "yuv420p"),
    "mpeg4": ("avi", "mpeg4", "yuv420p"),
    "mpeg2": ("mpegts", "mpeg2video", "yuv420p"),
    "mpeg1": ("mpeg", "mpeg1video", "yuv420p"),
    "mjpeg": ("avi", "mjpeg", "yuvj420p"),
    "prores": ("mov", "prores_ks", "yuv422p10le"),
}


@pytest.mark.parametrize("form", VIDEOS.values(), ids=VIDEOS)
def test_every_video_codec_works_under_every_layer(sandbox, form, write_video, barcode):
    assert_equal(sandbox, write_video([barcode(i, 80, 64) for i in range(12)], *form))


SOUNDS = {
    "pcm": ("wav", "pcm_s16le"),
    "float": ("wav", "pcm_f32le"),
    "aac": ("adts", "aac"),
    "mp3": ("mp3", "libmp3lame"),
    "opus": ("ogg", "libopus"),
    "flac": ("flac", "flac"),
    "alac": ("mp4", "alac"),
    "ac3": ("mpegts", "ac3"),
    "mp2": ("mpegts", "mp2"),
}


@pytest.mark.parametrize("form", SOUNDS.values(), ids=SOUNDS)
def test_every_sound_codec_works_under_every_layer(sandbox, form, write_sound, tone):
    assert_equal(sandbox, write_sound(tone(440, 1.0, 48_000), 48_000, *form))


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mjpeg", "yuvj444p"), ("png", "rgb24"), ("libwebp", "bgra")])
def test_pictures_are_decoded_alike(sandbox, codec, pix_fmt, write_picture, barcode):
    pictures = [write_picture(barcode(i), codec, pix_fmt) for i in range(2 * SLOTS)]
    with sandbox.decoder(LEFT_S) as decoder:
        for picture in pictures:
            np.testing.assert_array_equal(
                decoder.decode_picture(picture, LIMITS), media.decode_picture(picture, LIMITS)
            )


def test_a_picture_in_a_file_longer_than_any_is_refused_by_its_child(sandbox, write_picture, barcode):
    picture, limits = write_picture(barcode(0, 1, 1), "png", "rgb24"), MediaLimits(max_pixels=1)
    with sandbox.decoder(LEFT_S) as decoder, pytest.raises(MediaError, match=r"1048585 bytes; .* 1048584 ") as caught:
        decoder.decode_picture(picture.ljust(1_048_585, b"\0"), limits)
    assert (caught.value.code, decoder.spent) == ("too_large", None)


def test_sound_that_is_longer_than_the_shared_memory_comes_whole(make_sandbox, write_sound, tone):
    file = write_sound(tone(440, 150.0, 48_000), 48_000, "wav", "pcm_u8")
    sandbox, causes = make_sandbox()
    with sandbox.decoder(LEFT_S) as decoder:
        samples = whole(decoder.sound_pieces(file, 48_000, LIMITS))

    assert samples.nbytes > 2 * SLOTS * sandbox.slot_bytes
    np.testing.assert_array_equal(samples, media.read_sound(file, 48_000, LIMITS))
    assert causes == ["ok"]


def test_a_frame_that_answers_several_times_is_sent_once(sandbox, write_video, barcode):
    video = write_video([barcode(i) for i in range(3)])
    with sandbox.decoder(LEFT_S) as decoder:
        first, second, third = decoder.frames_at(video, [0.041, 0.05, 0.09], LIMITS)

    assert first is second
    assert third.time_s > second.time_s


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"hello world\n" * 50, "unsupported_media"),
        (b"", "unsupported_media"),
        (b"RIFF\0\0\0\0WAVE", "unreadable_media"),
    ],
)
def test_what_is_refused_here_is_refused_there_in_the_same_words(make_sandbox, content, code):
    with pytest.raises(MediaError) as ours:
        media.probe(content, LIMITS)
    sandbox, causes = make_sandbox()
    with pytest.raises(MediaError) as theirs, sandbox.decoder(LEFT_S) as decoder:
        decoder.probe(content, LIMITS)

    assert (theirs.value.code, str(theirs.value)) == (ours.value.code, str(ours.value)) == (code, str(ours.value))
    assert causes == ["refused"]


def test_a_recording_is_prepared_alike(sandbox, write_sound, tone, barcode):
    video = write_sound(tone(300, 2.0, 16_000), 16_000, "mp4", "aac", with_pictures=[barcode(i) for i in range(50)])
    spec = InputSpec(window_s=1.0, hop_s=0.5, voice=LogMelSpec())
    ours = prepare(Recording(video=video), spec, None, limits=LIMITS)
    with sandbox.decoder(LEFT_S) as decoder:
        theirs = prepare(Recording(video=video), spec, None, limits=LIMITS, decoder=decoder)

    assert theirs.media == ours.media
    assert len(theirs.windows) == len(ours.windows) > 2
    for inside, outside in zip(theirs.windows, ours.windows, strict=True):
        np.testing.assert_array_equal(inside.tensor("voice"), outside.tensor("voice"))


def test_picture_and_sound_are_read_in_turns_by_a_child_each(make_sandbox, write_sound, tone, barcode):
    pictures = [barcode(i) for i in range(50)]
    video = write_sound(tone(300, 2.0, 16_000), 16_000, "matroska", "pcm_s16le", with_pictures=pictures)
    times_s = [i / 25 for i in range(50)]
    sandbox, causes = make_sandbox()
    with sandbox.decoder(LEFT_S) as decoder:
        frames, sound = decoder.frames_at(video, times_s, LIMITS), decoder.sound_pieces(video, 16_000, LIMITS)
        first, heard = next(frames), [next(sound)]
        assert len(decoder.conversations) == 2
        shown = [first, next(frames)]
        heard += sound
        shown += frames
        assert decoder.probe(video, LIMITS) == media.probe(video, LIMITS)
        assert len(decoder.conversations) == 2
        pids = [one.child.pid for one in decoder.conversations]

    np.testing.assert_array_equal(whole(heard), whole(media.sound_pieces(video, 16_000, LIMITS)))
    for inside, outside in zip(shown, media.frames_at(video, times_s, LIMITS), strict=True):
        np.testing.assert_array_equal(inside.rgb, outside.rgb)
    assert len(set(pids)) == 2
    assert causes == ["ok"]


def test_a_child_that_has_not_finished_its_sound_ends_with_the_others(
    make_sandbox, write_sound, tone, barcode, wait_until_gone
):
    video = write_sound(
        tone(300, 20.0, 16_000), 16_000, "matroska", "flac", with_pictures=[barcode(i) for i in range(500)]
    )
    sandbox, causes = make_sandbox()
    with sandbox.decoder(LEFT_S) as decoder:
        frames, sound = (
            decoder.frames_at(video, [i / 25 for i in range(500)], LIMITS),
            decoder.sound_pieces(video, 16_000, LIMITS),
        )
        next(frames), next(sound)
        pids = [one.child.pid for one in decoder.conversations]

    for pid in pids:
        wait_until_gone(pid)
    assert causes == ["ok"]


def test_a_piece_of_a_spool_is_handed_over_as_it_lies_there(sandbox, tmp_path, write_video, barcode):
    video = write_video([barcode(5)] * 3)
    path = tmp_path / "spool"
    path.write_bytes(b"before" * 100 + video + b"after" * 100)
    with path.open("rb", buffering=0) as file:
        piece = io.BufferedReader(PieceReader(file.fileno(), 600, len(video)))
        with handed_over(piece) as (descriptor, start, size):
            assert (descriptor, start, size) == (file.fileno(), 600, len(video))
        with sandbox.decoder(LEFT_S) as decoder:
            assert decoder.probe(piece, LIMITS) == media.probe(video, LIMITS)


def test_an_open_file_is_handed_over(sandbox, tmp_path, write_video, barcode):
    video = write_video([barcode(5)] * 3)
    (tmp_path / "video").write_bytes(video)
    with (tmp_path / "video").open("rb") as file, sandbox.decoder(LEFT_S) as decoder:
        assert decoder.probe(file, LIMITS) == media.probe(video, LIMITS)


def test_nobody_can_shrink_the_shared_memory_under_the_other():
    ring, descriptor = Ring.create(slot_bytes_for(1))
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1 << 30)
    finally:
        os.close(descriptor)
        ring.close()


def test_what_was_read_does_not_change_when_the_memory_does():
    ring, descriptor = Ring.create(slot_bytes_for(1))
    os.close(descriptor)
    ring.write(1, np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    before = ring.read(1, 12, np.uint8)
    ring.write(1, np.zeros(12, np.uint8))

    assert before.tolist() == list(range(12))
    ring.close()


def test_no_descriptor_is_left_behind(sandbox, write_video, barcode):
    video = write_video([barcode(5)] * 3)
    sandbox.spare.next.result()  # which has descriptors of its own
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names are not needed
    for _ in range(20):
        with sandbox.decoder(LEFT_S) as decoder:
            list(decoder.frames_at(video, [0.0, 0.1], LIMITS))

    sandbox.spare.next.result()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_sockets_between_them_keep_messages_apart():
    ours, theirs = wire.pair()
    with ours, theirs:
        assert theirs.type == socket.SOCK_SEQPACKET
        wire.send(ours, {"one": 1})
        wire.send(ours, {"two": 2})
        assert wire.receive(theirs, 0) == ({"one": 1}, [])
        assert wire.receive(theirs, 0) == ({"two": 2}, [])


def test_no_child_is_left_behind_dead_or_alive_but_the_one_that_waits(sandbox, write_video, barcode, eventually):
    video = write_video([barcode(5)] * 3)
    children = Path(f"/proc/{sandbox.zygote.process.pid}/task/{sandbox.zygote.process.pid}/children")
    if not children.is_file():
        pytest.skip("this kernel does not list the children of a process")
    for _ in range(20):
        with sandbox.decoder(LEFT_S) as decoder:
            decoder.probe(video, LIMITS)

    waits = str(sandbox.spare.next.result().pid)
    eventually(lambda: children.read_text().split() == [waits], within_s=10.0)
    assert children.read_text().split() == [waits]
