"""What a student said of each test item: the scores, intervals and tests of the table are computed from this alone.

Axes: n items (clips, or labelled frames), K levels or classes, C values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.spec import Task
from training.files.replacing import whole_file
from training.scores.calibrate import expected_calibration_error
from training.scores.metrics import affect_metrics, classification_metrics, pain_metrics, regression_metrics

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Nothing is left out: a clip without an answer is here with NaN."""

    task: Task
    names: tuple[str, ...]
    """Levels or classes, or the names of the values."""
    person: NDArray[np.str_]
    """(n,)"""
    item: NDArray[np.str_]
    """(n,): clip, or clip and frame."""
    truth: NDArray[np.generic]
    """(n,) int64, or (n, C) float64."""
    said: Floats
    """(n, K) probabilities, NaN for no answer; or (n, C)."""
    calibrated: Floats | None = None
    """(n, K): the same with a temperature that other people gave; None for values, and where none was fitted."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(n,): which items have an answer. Values always are there: another window's, or the training mean."""
        there: NDArray[np.bool_] = np.all(np.isfinite(self.said), axis=1)
        return there

    def pick(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """Only the items that are True in `chosen` (n,)."""
        return replace(
            self,
            person=self.person[chosen],
            item=self.item[chosen],
            truth=self.truth[chosen],
            said=self.said[chosen],
            calibrated=None if self.calibrated is None else self.calibrated[chosen],
        )

    def with_temperature(self) -> "Predictions":
        """With the calibrated probabilities for what was said; the same where there are none."""
        return self if self.calibrated is None else replace(self, said=self.calibrated, calibrated=None)

    def calibration_error(self) -> float | None:
        """The expected calibration error of what was said of the answered items; None for values, and without any."""
        there = self.answered
        if self.task not in ("pain", "classification") or not there.any():
            return None
        return expected_calibration_error(self.said[there], self.truth[there].astype(np.int64))

    def scores(self) -> dict[str, float]:
        """Every score of the task over all items, how many those are, and how many people."""
        return self._scores() | {"people": float(len(np.unique(self.person)))}

    def _scores(self) -> dict[str, float]:
        if self.task == "pain":
            return pain_metrics(self.said, self.truth.astype(np.int64))
        if self.task == "classification":
            return classification_metrics(self.said, self.truth.astype(np.int64))
        truth = self.truth.astype(np.float64)
        if self.task == "valence-arousal":
            return affect_metrics(self.said, truth)
        return regression_metrics(self.said, truth, self.names)

    def save(self, file: Path, protocol: Sequence[str]) -> None:
        """Write what `load_predictions` reads, and beside it `protocol`: how the answers came about, in sentences."""
        calibrated = {} if self.calibrated is None else {"calibrated": self.calibrated}
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part, part.open("wb") as stream:
            np.savez_compressed(
                stream,
                allow_pickle=False,
                task=np.array(self.task),
                names=np.array(self.names),
                person=self.person,
                item=self.item,
                truth=self.truth,
                said=self.said,
                protocol=np.array(protocol, np.str_),
                **calibrated,
            )


def answered_in_all(said: Sequence[Predictions]) -> NDArray[np.bool_]:
    """(n,): which items have an answer in all of `said`; ValueError unless they are of the same items in one order."""
    if any(not np.array_equal(one.item, said[0].item) for one in said):
        raise ValueError("rows are compared on the same items, but theirs differ")
    there: NDArray[np.bool_] = np.all([one.answered for one in said], axis=0)
    return there


def joined_folds(parts: Sequence[Predictions]) -> Predictions:
    """The folds of one seed, in which everybody is tested once, as one; items in the order of their names."""
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("person", "item", "truth", "said")]
    order = np.argsort(joined[1], kind="stable")
    person, item, truth, said = (values[order] for values in joined)
    calibrated = [part.calibrated for part in parts if part.calibrated is not None]  # each by its own temperature
    after = np.concatenate(calibrated)[order] if len(calibrated) == len(parts) else None
    return Predictions(parts[0].task, parts[0].names, person, item, truth, said, after)


def load_predictions(file: Path) -> Predictions:
    """What `Predictions.save` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        return Predictions(
            task=str(arrays["task"]),  # type: ignore[arg-type]
            names=tuple(str(name) for name in arrays["names"]),
            person=arrays["person"],
            item=arrays["item"],
            truth=arrays["truth"],
            said=arrays["said"],
            calibrated=arrays.get("calibrated"),
        )
