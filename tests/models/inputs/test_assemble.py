"""Windows from samples and sound that are made up here, so that what each must hold is known beforehand."""

import gc
import weakref
from itertools import count

import numpy as np
import pytest

from models.inputs.assemble import Assembler, WindowInput
from models.inputs.face.face import FaceObservation
from models.inputs.windows import Window, plan_windows
from models.spec import FaceSpec, InputSpec, LogMelSpec, WaveformSpec

RATE_HZ = 8000
FACES = InputSpec(window_s=1.0, hop_s=1.0, face=FaceSpec(frames=4, size_px=32))
BOTH = FACES.model_copy(update={"voice": LogMelSpec(sample_rate_hz=RATE_HZ, mels=16, high_hz=4000)})
LOUD = np.random.default_rng(0).normal(0, 0.2, 100 * RATE_HZ).astype(np.float32)


def seen(face_id: int, time_s: float) -> FaceObservation:
    crop = np.full((32, 32, 3), 10 * face_id, np.uint8)
    crop[0, 0, 0] = round(time_s * 8) % 256
    return FaceObservation(face_id, time_s, (0, 0, 9, 9), 0.9, 0.0, 0.0, 0.0, 0.3, crop)


def faces_of(spec: InputSpec, windows: list[Window], **options) -> Assembler:
    return Assembler(spec, windows, sees=True, hears=False, **options)


def rows_of(assembler: Assembler, ids) -> list[WindowInput]:
    """All rows, where `ids(time_s)` tells who is in the picture that begins at each due time."""
    rows: list[WindowInput] = []
    while not assembler.done:
        if assembler.lacks_picture:
            assembler.look(assembler.due_s, tuple(seen(i, assembler.due_s) for i in ids(assembler.due_s)))
        else:
            rows += assembler.take()
    return rows


def test_a_window_is_there_with_its_last_sample_and_its_last_sound() -> None:
    assembler = Assembler(BOTH, plan_windows(0.0, 2.0, 1.0, 1.0), sees=True, hears=True)
    states = []
    for time_s in (0.125, 0.375, 0.625, 0.875):
        assert assembler.due_s == time_s
        states.append(assembler.lacks_picture)
        assembler.look(time_s, (seen(0, time_s),))
    for at in range(0, RATE_HZ, RATE_HZ // 4):
        states.append(assembler.lacks_sound)
        assembler.listen(LOUD[at : at + RATE_HZ // 4])

    assert all(states)
    assert not assembler.lacks_picture
    assert not assembler.lacks_sound
    (row,) = assembler.take()
    assert row.window == (0.0, 1.0)
    assert row.observed == {"face", "voice"}
    assert assembler.lacks_picture


def test_overlapping_windows_ask_for_each_time_once_and_in_order() -> None:
    assembler = faces_of(FACES, plan_windows(0.0, 3.0, 1.0, 0.25))
    asked = []

    def nobody(time_s: float) -> tuple[int, ...]:
        asked.append(time_s)
        return ()

    rows = rows_of(assembler, nobody)

    assert asked == sorted(set(asked))
    assert asked[:12] == pytest.approx([0.125 + 0.25 * i for i in range(12)])
    assert [row.window for row in rows] == plan_windows(0.0, 3.0, 1.0, 0.25)


def test_a_stream_that_is_cut_has_the_windows_of_a_recording_of_that_length() -> None:
    planned = plan_windows(0.0, 3.3, 1.0, 0.5)
    whole = rows_of(faces_of(FACES, planned), lambda _: (0,))
    assembler = faces_of(FACES, (Window(0.5 * i, 0.5 * i + 1.0) for i in count()))
    live: list[WindowInput] = []
    ended = False
    while not assembler.done:
        if not assembler.lacks_picture:
            live += assembler.take()
        elif assembler.due_s >= 3.3:
            assembler.cut(3.3)
            ended = True
        else:
            assembler.look(assembler.due_s, (seen(0, assembler.due_s),))

    assert ended
    assert [row.window for row in live] == planned
    for one, other in zip(live, whole, strict=True):
        np.testing.assert_array_equal(one.tensor("face"), other.tensor("face"))


def test_a_stream_that_ends_at_once_has_one_short_window() -> None:
    assembler = Assembler(
        BOTH.model_copy(update={"face": None}), (Window(float(i), i + 1.0) for i in count()), sees=False, hears=True
    )
    assembler.listen(LOUD[: RATE_HZ // 2])
    assembler.cut(0.5)

    assert not assembler.lacks_sound
    (row,) = assembler.take()
    assert (row.window, row.observed, assembler.done) == (Window(0.0, 0.5), {"voice"}, True)


def test_every_face_has_a_row_of_its_own_and_nobody_knows_whose_voice_it_is() -> None:
    assembler = Assembler(BOTH, plan_windows(0.0, 2.0, 1.0, 1.0), sees=True, hears=True, follow="all")
    assembler.listen(LOUD[: 2 * RATE_HZ])
    rows = rows_of(assembler, lambda t: (2, 1) if t < 1 else (1,))

    assert [(row.window.start_s, row.face.face_id) for row in rows] == [(0.0, 1), (0.0, 2), (1.0, 1)]
    assert [row.observed for row in rows] == [{"face"}, {"face"}, {"face", "voice"}]
    assert [row.tensor("face")[0, 5, 5, 0] for row in rows] == [10, 20, 10]
    assert [[track.face_id for track in row.tracks] for row in rows] == [[1, 2], [1, 2], [1]]


def test_a_passer_by_is_counted_but_has_no_row() -> None:
    assembler = faces_of(FACES, plan_windows(0.0, 2.0, 1.0, 1.0), follow="all")
    rows = rows_of(assembler, lambda t: (0, 1) if t < 0.2 else (0,) if t < 1 else ())

    assert [(row.face and row.face.face_id, row.reason) for row in rows] == [(0, None), (None, "no_face")]
    assert [[(track.face_id, track.coverage) for track in row.tracks] for row in rows] == [[(0, 1.0), (1, 0.25)], []]


def test_a_picture_says_nothing_of_times_too_far_from_its_own() -> None:
    assembler = faces_of(FACES, plan_windows(0.0, 4.0, 1.0, 1.0), hold_s=1.0)
    rows: list[WindowInput] = []
    while not assembler.done:
        if assembler.lacks_picture:
            assembler.look(0.0, (seen(0, 0.0),))
        else:
            rows += assembler.take()

    assert [row.reason for row in rows] == [None, "undecodable", "undecodable", "undecodable"]


def test_silence_is_told_from_what_is_heard_and_from_what_is_missing() -> None:
    spec = BOTH.model_copy(update={"face": None})
    assembler = Assembler(spec, plan_windows(0.0, 3.1, 1.0, 1.0), sees=False, hears=True)
    assembler.listen(np.zeros(RATE_HZ, np.float32))
    assembler.listen(LOUD[: RATE_HZ * 11 // 10])
    assembler.close_ears()
    rows = [assembler.take()[0], assembler.take()[0], assembler.take()[0], assembler.take()[0]]

    assert [row.reason for row in rows] == ["silent", None, "too_short", "too_short"]
    assert not assembler.silent_track


def test_windows_of_a_waveform_hold_its_samples_and_zeros_after_its_end() -> None:
    spec = InputSpec(window_s=1.0, hop_s=0.5, voice=WaveformSpec(sample_rate_hz=RATE_HZ))
    assembler = Assembler(spec, plan_windows(0.0, 2.3, 1.0, 0.5), sees=False, hears=True)
    for at in range(0, 18400, 3000):
        assembler.listen(LOUD[at : min(at + 3000, 18400)])
    assembler.close_ears()
    heard = []
    while not assembler.done:
        heard += [row.tensor("voice") for row in assembler.take()]

    assert [len(window) for window in heard] == [8000] * 5
    for number, window in enumerate(heard):
        np.testing.assert_array_equal(window, np.append(LOUD[:18400], np.zeros(8000))[4000 * number :][:8000])


def test_what_no_later_window_needs_is_forgotten() -> None:
    assembler = Assembler(BOTH, plan_windows(0.0, 200.0, 1.0, 0.5), sees=True, hears=True)
    alive, peak, heard = 0, 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    while not assembler.done:
        if assembler.lacks_picture:
            face = seen(0, assembler.due_s)
            weakref.finalize(face.crop, died)
            alive += 1
            assembler.look(face.time_s, (face,))
            del face
        elif assembler.lacks_sound:
            samples = np.zeros(800, np.float32)
            weakref.finalize(samples, died)
            alive, heard = alive + 1, heard + 1
            assembler.listen(samples)
            del samples
        else:
            assembler.take()
        gc.collect(0)
        peak = max(peak, alive)

    assert heard == 2000
    assert peak <= 4 + 2 + 10 + 10  # the samples and the sound of one window and a half, and what just came
