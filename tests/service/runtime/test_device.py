"""What a device computes of a batch: views instead of copies, and few runs to find a culprit."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.cancellation import Cancellation, RunCancelled
from service.runtime.device import BuildItem, Row, Tell, Told, compute, stack
from service.runtime.warm_up import BatchTime, WarmUp

Arrays = Mapping[str, NDArray[np.generic]]


class Picky:
    """Gives its input back, and fails on a batch with one of `bad` in it."""

    key, warm_up = "picky", WarmUp(times=(BatchTime(1, 1.0), BatchTime(32, 1.0)))

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.sizes: list[int] = []

    def on_device(self, _device: int, *, alone: bool = False) -> "Picky":  # noqa: ARG002 - the signature of a runner
        return self

    def run(self, inputs: Arrays, _cancel: Cancellation | None = None, *_: object) -> NDArray[np.generic]:
        self.sizes.append(len(inputs["x"]))
        if np.isin(inputs["x"], self.bad).any():
            raise RuntimeError("bad")
        return inputs["x"]


def builds(values: Sequence[int]) -> list[BuildItem]:
    return [lambda value=value: {"x": np.array([value])} for value in values]


@pytest.mark.parametrize("culprits", [(), (0,), (31,), (5, 6), (0, 13, 31), tuple(range(32))])
def test_halves_are_tried_until_each_culprit_stands_alone(culprits):
    runner = Picky(*culprits)

    results = compute(runner, builds(range(32)), Cancellation())

    for value, result in enumerate(results):
        if value in culprits:
            assert isinstance(result, RuntimeError)
        else:
            assert result.tolist() == [value]
    assert len(runner.sizes) <= 1 + 2 * 5 * len(culprits)  # two runs at each of log2(32) depths


def test_an_item_that_cannot_be_built_leaves_the_others_in_one_run():
    def broken() -> Arrays:
        raise OSError

    runner = Picky()
    results = compute(runner, [broken, *builds([1]), broken, *builds([2])], Cancellation())

    assert [type(result) for result in results] == [OSError, np.ndarray, OSError, np.ndarray]
    assert [results[1].tolist(), results[3].tolist(), runner.sizes] == [[1], [2], [2]]


def test_nothing_runs_for_a_batch_that_everybody_has_left():
    cancel, runner = Cancellation(), Picky()
    cancel.ask()

    results = compute(runner, builds([1, 2]), cancel)

    assert [type(result) for result in results] == [RunCancelled, RunCancelled]
    assert runner.sizes == []


def test_neighbouring_rows_of_one_array_are_not_copied():
    x = np.arange(12).reshape(6, 2)
    arrays = {"x": x}

    together = stack([Row(arrays, 2), Row(arrays, 3), Row(arrays, 4)])["x"]
    alone = stack([Row(arrays, 5)])["x"]

    assert together.tolist() == x[2:5].tolist()
    assert np.shares_memory(together, x)
    assert np.shares_memory(alone, x)


@pytest.mark.parametrize("rows", [(0, 2), (1, 0), (3, 3)])
def test_other_rows_are_put_together(rows):
    arrays = {"x": np.arange(12).reshape(6, 2)}

    assert stack([Row(arrays, row) for row in rows])["x"].tolist() == [arrays["x"][row].tolist() for row in rows]


def test_rows_of_different_requests_and_single_windows_share_a_batch():
    one, other = {"x": np.array([[1], [2]])}, {"x": np.array([[3], [4]])}

    mixed = stack([Row(one, 1), Row(other, 0), {"x": np.array([5])}])["x"]

    assert mixed.tolist() == [[2], [3], [5]]


def test_a_row_that_is_not_there_fails_alone():
    arrays = {"x": np.array([[1], [2]])}

    results = compute(Picky(), [Row(arrays, 0), Row(arrays, 7)], Cancellation())

    assert results[0].tolist() == [1]
    assert isinstance(results[1], ValueError)


class Doubtful(Picky):
    """Runs two windows at a time, and expects ten times as large an error as its input is."""

    def run(self, inputs: Arrays, cancel: Cancellation | None = None, tell: Tell | None = None) -> NDArray[np.generic]:
        output = super().run(inputs, cancel)
        for start in range(0, len(output), 2) if tell is not None else ():
            tell({"eda": 10.0 * inputs["x"][start : start + 2, 0]})
        return output


def test_each_window_that_asks_is_told_what_the_graph_expects_there_whoever_is_in_its_batch():
    expected: list[dict[str, float]] = [{} for _ in range(6)]
    asking = [partial(Told, {"x": np.array([value])}, told) for value, told in enumerate(expected)]
    arrays = {"x": np.array([[7], [8]])}

    compute(Doubtful(3), [Row(arrays, 0), *asking, Row(arrays, 1)], Cancellation())

    assert expected == [{"eda": 0.0}, {"eda": 10.0}, {"eda": 20.0}, {}, {"eda": 40.0}, {"eda": 50.0}]
