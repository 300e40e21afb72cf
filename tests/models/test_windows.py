"""Windows and frame times: what they promise for any recording."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.inputs.windows import MIN_TAIL_SHARE, Window, frame_times, plan_windows

SECONDS = st.floats(0.1, 60)


def test_windows_follow_each_other_and_the_last_one_is_cut():
    assert plan_windows(1.0, 6.0, 2.0, 2.0) == [Window(1.0, 3.0), Window(3.0, 5.0), Window(5.0, 6.0)]


def test_a_tail_under_a_tenth_of_a_window_is_left_out():
    assert plan_windows(0.0, 2.19, 2.0, 2.0) == [Window(0.0, 2.0)]
    assert len(plan_windows(0.0, 2.21, 2.0, 2.0)) == 2


@pytest.mark.parametrize("duration_s", [0.0, 0.04])
def test_even_the_shortest_recording_has_a_window(duration_s):
    assert plan_windows(3.0, 3.0 + duration_s, 2.0, 1.0) == [Window(3.0, 3.0 + duration_s)]


def test_a_shorter_hop_makes_windows_overlap():
    assert [window.start_s for window in plan_windows(0.0, 4.0, 2.0, 1.0)] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("start_s", "end_s", "window_s", "hop_s"),
    [
        (0, 1, 0, 1),
        (0, 1, 1, 0),
        (0, 1, -1, 1),
        (1, 0, 1, 1),
        (0, math.inf, 1, 1),
        (0, math.nan, 1, 1),
        (0, 1, math.nan, 1),
        (-math.inf, 0, 1, 1),
    ],
)
def test_numbers_that_make_no_windows_are_refused(start_s, end_s, window_s, hop_s):
    with pytest.raises(ValueError, match="over 0 s"):
        plan_windows(start_s, end_s, window_s, hop_s)


@given(st.floats(0, 900), st.floats(0, 120), SECONDS, SECONDS)
def test_windows_lie_inside_the_recording_and_leave_no_more_than_a_tail(start_s, duration_s, window_s, hop_s):
    end_s = start_s + duration_s

    windows = plan_windows(start_s, end_s, window_s, hop_s)

    assert windows[0].start_s == start_s
    assert all(start_s <= w.start_s <= w.end_s <= end_s and w.end_s - w.start_s <= window_s + 1e-9 for w in windows)
    np.testing.assert_allclose(np.diff([w.start_s for w in windows]), hop_s, rtol=1e-9)
    next_start_s = windows[-1].start_s + hop_s
    assert next_start_s + MIN_TAIL_SHARE * window_s > end_s - 1e-9


def test_frames_are_the_middles_of_equal_parts():
    np.testing.assert_allclose(frame_times(Window(4.0, 6.0), 4, 2.0), [4.25, 4.75, 5.25, 5.75])


def test_a_cut_window_keeps_the_spacing_and_repeats_its_last_moment():
    times = frame_times(Window(2.0, 2.4), 10, 2.0)

    np.testing.assert_allclose(times[:2], [2.1, 2.3])
    np.testing.assert_allclose(times[2:], 2.399)


def test_a_window_shorter_than_one_step_is_divided_evenly():
    np.testing.assert_allclose(frame_times(Window(1.0, 1.1), 5, 2.0), [1.01, 1.03, 1.05, 1.07, 1.09])


@given(st.floats(0, 900), st.floats(0, 10), st.integers(1, 64), SECONDS)
def test_frame_times_rise_and_stay_inside_the_window(start_s, length_s, frames, window_s):
    window = Window(start_s, start_s + min(length_s, window_s))

    times = frame_times(window, frames, window_s)

    assert times.shape == (frames,)
    assert (np.diff(times) >= 0).all()
    assert (times >= window.start_s).all()
    assert (times <= max(window.start_s, window.end_s)).all()
