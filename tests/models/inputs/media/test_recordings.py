"""Real recordings, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from models.inputs.media.media import MediaLimits, decode_picture, frame_times, frames_at, probe, read_sound

DATA = Path(__file__).parents[5] / "shared" / "data"
LIMITS = MediaLimits()

pytestmark = pytest.mark.skipif(not (DATA / "clips").is_dir(), reason="needs the recordings of ../shared/data")

# from the data's own README; no_face.mp4 hides 3 of its 98 frames behind an edit list
CLIPS = {
    "clips/single_face.mp4": (72, 30.0, (640, 360), 2.4),
    "clips/no_face.mp4": (95, 24.0, (960, 540), 4.0),
    "clips/face_noface.mov": (169, None, (960, 540), 6.4),
    **{
        f"grid_av/{name}.mpg": (75, 25.0, (360, 288), 3.0)
        for name in ("bbaf2n", "lbbc2a", "lrwp9a", "lwbsza", "pwij3p", "sbia1a", "sbwe5n", "swwp2s")
    },
}


@pytest.mark.parametrize(("name", "facts"), CLIPS.items(), ids=CLIPS)
def test_a_real_clip_is_what_its_description_says(name, facts):
    frames, fps, size, duration_s = facts
    with (DATA / name).open("rb") as file:
        info = probe(file, LIMITS)
        times_s = frame_times(file, LIMITS)
        decoded_s = [frame.time_s for frame in frames_at(file, list(times_s), LIMITS)]
        sound = read_sound(file, 16000, LIMITS)

    assert (info.width, info.height, info.has_video, info.has_audio) == (*size, True, True)
    assert info.duration_s == pytest.approx(duration_s, abs=0.05)
    assert fps is None or info.fps == pytest.approx(fps, abs=0.01)
    assert len(times_s) == frames
    assert decoded_s == pytest.approx(times_s, abs=1e-6)
    assert len(sound) / 16000 == pytest.approx(info.duration_s, abs=0.06)
    assert np.abs(sound).max() > 0.005


@pytest.mark.parametrize(("name", "shape"), [("single_face.jpg", (562, 572, 3)), ("multi_face.jpg", (667, 1000, 3))])
def test_real_photographs_are_decoded(name, shape):
    rgb = decode_picture((DATA / "clips" / name).read_bytes(), LIMITS)

    assert rgb.shape == shape
    assert rgb.std() > 20
