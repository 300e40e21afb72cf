"""A recording becomes windows: what each of them holds, and why some hold nothing."""

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
