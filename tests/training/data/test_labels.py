"""Few labels: whose windows keep one, and how much of what people had to label that is."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.data.labels import keep_labels
from training.data.window_set import WindowSet, has_target
from training.stage_config import LabelsConfig

CLASSES = torch.arange(30) * 7 % 3
VALUES = torch.stack([torch.arange(30) / 30, -torch.arange(30) / 30], dim=1)


def windows_of(targets: Tensor, person: Tensor, clip: Tensor, spans_s: Tensor | None = None) -> WindowSet:
    """Windows that hold nothing, a second each if not told otherwise."""
    n = len(targets)
    spans_s = torch.tensor([[0.0, 1.0]]).repeat(n, 1) if spans_s is None else spans_s
    people = tuple(f"p{i}" for i in range(int(person.max()) + 1))
    return WindowSet({}, torch.arange(n), {}, targets, person, clip, spans_s.double(), people)


def recordings(clips: int, windows: int, clips_each: int, hop_s: float, window_s: float = 1.0) -> dict[str, Tensor]:
    """Person, clip and spans of so many clips with so many windows each."""
    clip = torch.repeat_interleave(torch.arange(clips), windows)
    start_s = hop_s * torch.arange(windows).repeat(clips)
    return {"person": clip // clips_each, "clip": clip, "spans_s": torch.stack([start_s, start_s + window_s], dim=1)}


def kept_of(windows: WindowSet, seed: int = 0, **config: Any) -> list[int]:
    targets = keep_labels(windows, LabelsConfig(**config), seed=seed).targets
    return has_target(targets).nonzero()[:, 0].tolist()


def covered_s(windows: WindowSet, rows: list[int]) -> float:
    """The time that some windows cover together, by counting hundredths of a second."""
    hundredths: set[tuple[int, int]] = set()
    for row in rows:
        start, end = (round(100 * float(edge)) for edge in windows.spans_s[row])
        hundredths |= {(int(windows.clip[row]), tick) for tick in range(start, end)}
    return len(hundredths) / 100


@pytest.mark.parametrize(
    ("seed", "classes", "values", "people"),
    [
        (
            0,
            [0, 10, 13, 20, 21, 26],
            [0, 1, 2, 4, 7, 8, 9, 12, 15, 16, 17, 23],
            [0, 2, 6, 8, 12, 14, 18, 20, 24, 26],
        ),
        (
            1,
            [1, 8, 21, 25, 27, 29],
            [0, 3, 6, 10, 11, 13, 15, 16, 20, 25, 26, 29],
            [5, 10, 11, 16, 17, 22, 23, 28, 29],
        ),
        (
            7,
            [1, 2, 9, 18, 20, 22],
            [1, 3, 4, 12, 14, 17, 18, 19, 20, 22, 27, 29],
            [2, 3, 8, 9, 14, 15, 20, 21, 26, 27],
        ),
    ],
)
def test_of_clips_with_one_window_the_published_ones_are_drawn(
    seed: int, classes: list[int], values: list[int], people: list[int]
) -> None:
    labels, affect = CLASSES.clone(), VALUES.clone()
    labels[4], affect[5] = -1, torch.nan
    own = {"person": torch.arange(30) % 6, "clip": torch.arange(30).flip(0)}

    assert kept_of(windows_of(labels, **own), seed, fraction=0.2) == classes
    assert kept_of(windows_of(affect, **own), seed, fraction=0.4) == values
    assert kept_of(windows_of(labels, **own), seed, fraction=0.4, by="person") == people


def test_where_a_clip_has_one_label_a_fifth_of_the_clips_keep_it_in_all_their_windows() -> None:
    own = recordings(clips=140, windows=5, clips_each=10, hop_s=1.0)
    labels = own["clip"] % 2
    labels[own["clip"] < 2] = -1  # two clips that nobody labelled
    labels[13] = -1  # and one window of a clip that has a label

    kept = kept_of(windows_of(labels, **own), fraction=0.2)

    chosen = own["clip"][kept].unique()
    assert torch.bincount(chosen % 2).tolist() == [14, 14]  # of 69 each
    labelled = (labels >= 0).nonzero()[:, 0]
    assert kept == [row for row in labelled.tolist() if own["clip"][row] in chosen]


def test_where_a_clip_has_one_value_each_person_keeps_a_share_of_the_clips() -> None:
    own = recordings(clips=30, windows=4, clips_each=10, hop_s=1.0)

    kept = kept_of(windows_of(own["clip"][:, None] / 30, **own), fraction=0.2)

    chosen = own["clip"][kept].unique()
    assert torch.bincount(chosen // 10).tolist() == [2, 2, 2]
    assert len(kept) == 4 * len(chosen)


def test_a_clip_of_each_class_keeps_its_label_however_few_there_are() -> None:
    own = recordings(clips=6, windows=3, clips_each=2, hop_s=1.0)

    kept = kept_of(windows_of(own["clip"] % 3, **own), fraction=0.01)

    assert sorted((own["clip"][kept] % 3).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("hop_s", "in_60_s", "in_12_s"), [(1.0, 60, 12), (0.5, 119, 23), (0.25, 237, 45)])
def test_where_values_change_within_a_clip_a_share_of_the_time_keeps_its_label(
    seed: int, hop_s: float, in_60_s: int, in_12_s: int
) -> None:
    own = recordings(clips=4, windows=in_60_s, clips_each=1, hop_s=hop_s)
    made = windows_of(torch.sin(torch.arange(4 * in_60_s))[:, None], **own)

    kept = kept_of(made, seed, fraction=0.2)

    for clip in range(4):
        of_clip = [row for row in kept if own["clip"][row] == clip]
        assert covered_s(made, of_clip) == 12
        assert of_clip == list(range(of_clip[0], of_clip[0] + in_12_s))


def test_of_short_clips_whose_values_change_whole_ones_keep_their_labels() -> None:
    own = recordings(clips=40, windows=3, clips_each=20, hop_s=1.0)

    kept = kept_of(windows_of(torch.arange(120)[:, None] / 120, **own), fraction=0.2)

    assert torch.bincount(own["person"][kept]).tolist() == [12, 12]  # of 60
    windows_each = torch.bincount(own["clip"][kept])
    assert (windows_each == 3).sum() >= 6  # at most the first and the last in a person's order are cut
    assert len(kept_of(windows_of(torch.arange(120)[:, None] / 120, **own), fraction=0.01)) == 2  # one of each person


def test_where_a_stretch_lies_is_drawn_over_the_whole_recording() -> None:
    own = recordings(clips=1, windows=10, clips_each=1, hop_s=1.0)
    made = windows_of(torch.arange(10)[:, None] / 10, **own)

    starts = [kept_of(made, seed, fraction=0.3)[0] for seed in range(200)]

    assert np.bincount(starts).tolist() == pytest.approx([25] * 8, abs=15)  # 0 to 7


@given(
    gaps_s=st.lists(st.sampled_from([0.25, 0.5, 1.0, 3.0]), min_size=2, max_size=30),
    clips=st.integers(1, 4),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 20),
)
def test_never_more_than_the_share_of_the_time_but_for_a_single_window(
    gaps_s: list[float], clips: int, fraction: float, seed: int
) -> None:
    n = len(gaps_s)
    start_s = torch.tensor(gaps_s).cumsum(0)
    spans_s = torch.stack([start_s, start_s + 1], dim=1)
    clip = torch.arange(n) * clips // n
    made = windows_of(torch.arange(n)[:, None] / n, torch.zeros(n, dtype=torch.int64), clip, spans_s)
    if len(clip.unique()) == n:
        return  # one window a clip: clips are drawn

    kept = kept_of(made, seed, fraction=fraction)

    assert kept
    assert len(kept) == 1 or covered_s(made, kept) <= fraction * covered_s(made, list(range(n))) + 1e-6


def test_without_any_label_there_is_none_to_keep() -> None:
    own = recordings(clips=3, windows=2, clips_each=1, hop_s=1.0)

    assert kept_of(windows_of(torch.full((6,), -1), **own), fraction=0.5) == []
    assert kept_of(windows_of(torch.full((6, 2), torch.nan), **own), fraction=0.5) == []


def test_people_keep_all_of_their_labels_whatever_their_clips() -> None:
    own = recordings(clips=20, windows=5, clips_each=2, hop_s=0.5)

    kept = kept_of(windows_of(torch.arange(100) % 3, **own), fraction=0.2, by="person")

    assert torch.bincount(own["person"][kept], minlength=10).unique().tolist() == [0, 10]
    assert len(kept) == 20
