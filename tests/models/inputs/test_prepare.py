"""A recording becomes windows: what each of them holds, and why some hold nothing."""

import io
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest

from models.inputs.container import MediaError, MediaLimits
from models.inputs.face_nets import FaceNets, load_face_nets
from models.inputs.prepare import Recording, Span, SpanError, prepare
from models.spec import FaceSpec, InputSpec, VoiceSpec

LIMITS = MediaLimits()
FACES = InputSpec(window_s=1.0, hop_s=1.0, face=FaceSpec(frames=4))


@pytest.fixture(scope="module")
def nets(face_nets_folder: Path) -> FaceNets:
    return load_face_nets(face_nets_folder, threads=1)


def test_overlapping_windows_share_crops_and_have_the_specs_shapes(nets: FaceNets, clips: Path) -> None:
    video = (clips / "single_face.mp4").read_bytes()
    spec = FACES.model_copy(update={"voice": VoiceSpec()})

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

    spec = InputSpec(window_s=2.0, hop_s=2.0, voice=VoiceSpec(mels=16))
    whole = prepare(Recording(audio=wav.getvalue()), spec, None, limits=LIMITS, tick=tick)
    few, ticks = ticks, 0
    many = prepare(Recording(audio=wav.getvalue()), spec, None, limits=LIMITS, span=Span(hop_s=0.1), tick=tick)

    assert ticks - few == len(many.windows) - len(whole.windows) > 100


def test_sound_that_ended_before_the_part_is_not_called_silent(clips: Path, nets: FaceNets) -> None:
    spec = FACES.model_copy(update={"voice": VoiceSpec()})
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


def _blank_png() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + b"\x80" * 300) * 100)
    header = struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
