"""A recording becomes windows: what each of them holds, and why some hold nothing."""

import io
import itertools
import struct
import wave
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from models.inputs.face.face import FaceTracker
from models.inputs.face.nets import FaceNets, load_face_nets
from models.inputs.media import media
from models.inputs.media.container import MediaError, MediaLimits
from models.inputs.prepare import Preparation, Recording, Span, SpanError, prepare
from models.inputs.voice import log_mel
from models.inputs.windows import frame_times, plan_windows
from models.spec import FaceSpec, InputSpec, LogMelSpec

LIMITS = MediaLimits()
FACES = InputSpec(window_s=1.0, hop_s=1.0, face=FaceSpec(frames=4))


@pytest.fixture(scope="module")
def nets(face_nets_folder: Path) -> FaceNets:
    return load_face_nets(face_nets_folder, threads=1)


def test_overlapping_windows_share_crops_and_have_the_specs_shapes(nets: FaceNets, clips: Path) -> None:
    video = (clips / "single_face.mp4").read_bytes()
    spec = FACES.model_copy(update={"voice": LogMelSpec()})

    ready = prepare(Recording(video=video), spec, nets, limits=LIMITS, span=Span(0.0, 2.0, 0.25))

    first, second = ready.windows[:2]
    assert first.tensor("face").shape == spec.shape("face")
    assert first.tensor("face").dtype == np.uint8
    assert first.crops[1] is second.crops[0]


def test_a_side_is_searched_alone(nets: FaceNets, clips: Path) -> None:
    picture = (clips / "multi_face.jpg").read_bytes()

    def crop(recording: Recording) -> np.ndarray:
        return prepare(recording, FACES, nets, limits=LIMITS).windows[0].tensor("face")

    left, right = crop(Recording(pictures=[picture], side="left")), crop(Recording(pictures=[picture], side="right"))

    assert not np.array_equal(left, right)


def test_too_many_windows_and_a_start_beyond_the_end_are_refused(nets: FaceNets, clips: Path) -> None:
    recording = Recording(video=(clips / "single_face.mp4").read_bytes())

    with pytest.raises(MediaError, match="more than 3 windows") as refused:
        prepare(recording, FACES, nets, limits=LIMITS, span=Span(0.0, None, 0.02), max_windows=3)
    with pytest.raises(SpanError, match="start_s is 999, but the recording ends at"):
        prepare(recording, FACES, nets, limits=LIMITS, span=Span(999.0))

    assert refused.value.code == "too_large"


def test_a_deadline_can_end_the_cutting_into_windows() -> None:
    wav = io.BytesIO()
    with wave.open(wav, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(np.random.default_rng(0).integers(-9000, 9000, 8000 * 20, np.int16).tobytes())
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    spec = InputSpec(window_s=2.0, hop_s=2.0, voice=LogMelSpec(mels=16))
    whole = prepare(Recording(audio=wav.getvalue()), spec, None, limits=LIMITS, tick=tick)
    few, ticks = ticks, 0
    many = prepare(Recording(audio=wav.getvalue()), spec, None, limits=LIMITS, span=Span(hop_s=0.1), tick=tick)

    assert ticks - few == len(many.windows) - len(whole.windows) > 100


def test_sound_that_ended_before_the_part_is_not_called_silent(clips: Path, nets: FaceNets) -> None:
    spec = FACES.model_copy(update={"voice": LogMelSpec()})
    wav = io.BytesIO()
    with wave.open(wav, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.random.default_rng(0).integers(-9000, 9000, 16_000, np.int16).tobytes())
    recording = Recording(video=(clips / "single_face.mp4").read_bytes(), audio=wav.getvalue())

    ready = prepare(recording, spec, nets, limits=LIMITS, span=Span(start_s=1.5))

    assert not ready.silent_track
    assert all(window.observed == {"face"} for window in ready.windows)


def test_coverage_counts_each_frame_once(clips: Path, nets: FaceNets) -> None:
    face, nobody = (clips / "single_face.jpg").read_bytes(), _blank_png()

    mostly = prepare(Recording(pictures=[face] * 4 + [nobody]), FACES, nets, limits=LIMITS).windows[0]
    seldom = prepare(Recording(pictures=[nobody] * 3 + [face]), FACES, nets, limits=LIMITS).windows[0]

    assert mostly.face is not None
    assert mostly.face.coverage == pytest.approx(0.75)  # of the four pictures that are sampled
    assert seldom.face is not None
    assert seldom.face.coverage == pytest.approx(0.25)


def test_damaged_pictures_are_lost_beyond_the_time_for_which_the_one_before_stands_in(
    clips: Path, nets: FaceNets
) -> None:
    face, spec = (clips / "single_face.jpg").read_bytes(), FACES.model_copy(update={"face": FaceSpec(frames=1)})

    ready = prepare(Recording(pictures=[face, *[face[:2000]] * 4, face], pictures_fps=1.0), spec, nets, limits=LIMITS)

    assert [window.reason for window in ready.windows] == [None, None, None, "undecodable", "undecodable", None]


def _blank_png() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + b"\x80" * 300) * 100)
    header = struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("name", "hop_s"), [("no_face.mp4", 1.0), ("face_noface.mov", 0.3)])
def test_windows_one_by_one_hold_what_the_whole_recording_holds_there(
    clips: Path, nets: FaceNets, name: str, hop_s: float
) -> None:
    """Against the slow way: all frames and all sound first, then cut."""
    video, spec = (clips / name).read_bytes(), FACES.model_copy(update={"voice": LogMelSpec(), "hop_s": hop_s})
    planned = plan_windows(0.0, media.probe(video, LIMITS).duration_s, spec.window_s, hop_s)
    asked = [[round(float(t), 6) for t in frame_times(window, 4, spec.window_s)] for window in planned]
    times = sorted({t for window in asked for t in window})
    tracker, crops, last_s = FaceTracker(nets), {}, None
    for t, frame in zip(times, media.frames_at(video, times, LIMITS), strict=True):
        if frame.time_s != last_s:
            faces, last_s = tracker.step(frame.time_s, frame.rgb), frame.time_s
        crops[t] = faces[0].crop if faces else None
    sound = media.read_sound(video, 16_000, LIMITS)
    assert sound is not None

    rows = list(Preparation(Recording(video=video), spec, nets, limits=LIMITS).windows())

    assert [row.window for row in rows] == planned
    for row, window_times in zip(rows, asked, strict=True):
        if "voice" in row.observed:
            samples = sound[round(row.window.start_s * 16_000) : round(row.window.end_s * 16_000)]
            np.testing.assert_array_equal(row.tensor("voice"), log_mel(samples, spec.voice, 100))
        own = [crops[t] for t in window_times]
        if all(crop is not None for crop in own):
            np.testing.assert_array_equal(row.tensor("face"), np.stack(own))
        if all(crop is None for crop in own):
            assert "face" not in row.observed
    assert {modality for row in rows for modality in row.observed} >= {"voice"}


def test_the_first_window_comes_before_the_rest_is_decoded(clips: Path, nets: FaceNets) -> None:
    spec = FACES.model_copy(update={"voice": LogMelSpec()})
    video = (clips / "face_noface.mov").read_bytes()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    preparation = Preparation(Recording(video=video), spec, nets, limits=LIMITS, tick=tick)
    opened = ticks
    windows = preparation.windows()
    first = next(windows)
    begun = ticks - opened
    assert (first.window.end_s, preparation.reached_s) == (1.0, 1.0)
    list(windows)

    assert begun < 0.4 * (ticks - opened)  # a sixth of the recording, and what decoders hold back


def test_seconds_are_told_by_the_clock_that_is_given(clips: Path, nets: FaceNets) -> None:
    ticking = itertools.count()
    preparation = Preparation(
        Recording(video=(clips / "single_face.mp4").read_bytes()),
        FACES,
        nets,
        limits=LIMITS,
        clock=lambda: float(next(ticking)),
    )
    assert (preparation.seconds.decode, preparation.seconds.face) == (1.0, 0.0)
    windows = list(preparation.windows())

    looked = round(preparation.seconds.face)
    assert preparation.seconds.decode + looked == next(ticking) / 2
    assert looked >= 4 * len(windows) / 2


def test_one_open_file_serves_picture_and_sound_in_turns(clips: Path, nets: FaceNets) -> None:
    spec = FACES.model_copy(update={"voice": LogMelSpec()})
    path = clips / "face_noface.mov"
    with path.open("rb") as file:
        from_file = prepare(Recording(video=file), spec, nets, limits=LIMITS).windows
    from_memory = prepare(Recording(video=path.read_bytes()), spec, nets, limits=LIMITS).windows

    for one, other in zip(from_file, from_memory, strict=True):
        assert one.observed == other.observed
        for modality in one.observed:
            np.testing.assert_array_equal(one.tensor(modality), other.tensor(modality))


@pytest.fixture(scope="module")
def portrait(clips: Path) -> np.ndarray:
    return media.decode_picture((clips / "single_face.jpg").read_bytes(), LIMITS)[::2, ::2]


def test_a_hole_in_the_picture_is_told_and_the_rest_is_answered(
    nets: FaceNets, portrait: np.ndarray, write_sound, tone
) -> None:
    spec = FACES.model_copy(update={"voice": LogMelSpec()})
    sound = np.concatenate([tone(300, 5.0, 16_000), np.zeros(3 * 16_000)])
    film = write_sound(sound, 16_000, "matroska", "pcm_s16le", with_pictures=_even([portrait] * 200))
    damaged = _without_packets(film, "video", 1.5, 6.6)

    rows = prepare(Recording(video=damaged), spec, nets, limits=LIMITS).windows

    assert [sorted(row.observed) for row in rows] == [
        *(["face", "voice"], ["face", "voice"], ["face", "voice"], ["voice"], ["voice"], [], ["face"], ["face"]),
    ]
    assert rows[5].reason == "undecodable"


def test_a_hole_in_the_sound_leaves_the_picture_and_the_rest_of_the_sound(
    nets: FaceNets, portrait: np.ndarray, write_sound, tone
) -> None:
    spec = FACES.model_copy(update={"voice": LogMelSpec()})
    film = write_sound(tone(300, 5.0, 16_000), 16_000, "matroska", "flac", with_pictures=_even([portrait] * 125))
    damaged = _without_packets(film, "audio", 1.0, 4.0)

    both = prepare(Recording(video=damaged), spec, nets, limits=LIMITS).windows
    alone = prepare(Recording(audio=damaged), spec.model_copy(update={"face": None}), None, limits=LIMITS).windows

    assert [sorted(row.observed) for row in both] == [
        *(["face", "voice"], ["face"], ["face"], ["face"], ["face", "voice"]),
    ]
    assert [row.reason for row in alone] == [None, "silent", "silent", "silent", None]


def _even(pictures):
    return [picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2] for picture in pictures]


def _without_packets(film: bytes, kind: str, start_s: float, end_s: float) -> bytes:
    """The same, with zeros in place of one track's packets between two times."""
    damaged = bytearray(film)
    with av.open(io.BytesIO(film)) as container:
        for packet in container.demux(**{kind: 0}):
            if packet.size and packet.pts is not None and start_s <= float(packet.pts * packet.time_base) < end_s:
                at = film.find(bytes(packet), packet.pos)
                damaged[at : at + packet.size] = bytes(packet.size)
    return bytes(damaged)
