"""Every odd recording comes out as its case says, by way of the decoder that the service uses."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.inputs.media.decoder import Decoder
from models.inputs.media.media import MediaError, MediaInfo, MediaLimits, frame_times
from models.inputs.prepare import Recording, prepare
from models.spec import InputSpec, LogMelSpec

from .case import Case, Wanted
from .cases import CASES
from .drawing import read_columns, read_corners, read_number

PAGE = Path(__file__).parents[4] / "docs" / "media.md"
RATE_HZ = 16_000
HEARING = InputSpec(window_s=1.0, hop_s=1.0, voice=LogMelSpec())
ROUNDING_S = 0.002
"""Containers round times to milliseconds."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_an_odd_recording(case: Case, decoder: Decoder) -> None:
    data, wanted = case.make(), case.wanted
    if wanted.refused is not None:
        with pytest.raises(MediaError) as refused:
            read_all(data, decoder, case.limits)
        assert refused.value.code == wanted.refused
        assert [part for part in wanted.says if part not in str(refused.value)] == []
        return
    media = decoder.probe(data, case.limits)
    check_facts(media, wanted)
    if media.has_video:
        check_picture(data, decoder, case.limits, wanted)
    if media.has_audio:
        check_sound(data, decoder, case.limits, wanted)


def test_the_page_counts_the_cases() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|", page, re.MULTILINE)) == {
        kind: str(count) for kind, count in Counter(case.kind for case in CASES).items()
    }
    assert f"{len(CASES)} recordings" in page


def read_all(data: bytes, decoder: Decoder, limits: MediaLimits) -> None:
    if decoder.probe(data, limits).has_video:
        list(decoder.frames_at(data, [0.0], limits))


def check_facts(media: MediaInfo, wanted: Wanted) -> None:
    assert 0 < media.duration_s < MediaLimits().max_duration_s
    if wanted.duration_s is not None:
        assert media.duration_s == pytest.approx(wanted.duration_s, abs=0.05)
    if wanted.fps is not None:
        assert media.fps == pytest.approx(wanted.fps, rel=0.01)
    if wanted.size is not None:
        assert (media.width, media.height) == wanted.size


def check_picture(data: bytes, decoder: Decoder, limits: MediaLimits, wanted: Wanted) -> None:
    times_s = frame_times(data, limits)
    if wanted.times_s is not None:
        assert times_s == pytest.approx(wanted.times_s, abs=ROUNDING_S)
    frames = list(decoder.frames_at(data, times_s.tolist(), limits))
    rgb = frames[-1].rgb
    if wanted.numbers is not None:
        assert tuple(read_number(frame.rgb) for frame in frames) == wanted.numbers
    if wanted.pixels is not None:
        assert rgb.shape == (*wanted.pixels[::-1], 3)
    if wanted.corners is not None:
        assert read_corners(rgb) == wanted.corners
    if wanted.columns is not None:
        assert read_columns(rgb, len(wanted.columns)) == pytest.approx(np.array(wanted.columns), abs=wanted.within)


def check_sound(data: bytes, decoder: Decoder, limits: MediaLimits, wanted: Wanted) -> None:
    sound = np.concatenate([np.zeros(0, np.float32), *decoder.sound_pieces(data, RATE_HZ, limits)])
    assert np.isfinite(sound).all()
    assert np.abs(sound).max(initial=0) <= 1.1  # resampling may overshoot full scale a little
    if wanted.level is not None:
        fifth = len(sound) // 5
        assert np.abs(sound[fifth:-fifth]).max() == pytest.approx(wanted.level, rel=0.1)
    if wanted.sounds_from_s is not None:
        assert np.argmax(np.abs(sound) > 0.01) / RATE_HZ == pytest.approx(wanted.sounds_from_s, abs=0.01)
    if wanted.hears is not None:
        prepared = prepare(Recording(video=data), HEARING, None, limits=limits, decoder=decoder)
        assert tuple(window.reason or "".join(window.observed) for window in prepared.windows) == wanted.hears
        assert prepared.silent_track == ("silent" in wanted.hears and "voice" not in wanted.hears)
