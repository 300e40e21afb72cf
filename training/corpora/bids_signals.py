"""The signals of an event, cut from the recordings of its run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.inputs.signals import PREPARATIONS, prepare_signal, resample
from models.spec import InputSpec, SignalSpec
from training.corpora.bids_physio import Physio, read_physio
from training.corpora.bids_runs import Event, Run
from training.corpora.bids_units import UNITS, factor_of
from training.corpora.clip import CorpusError

MAX_GAP: Final = 0.2
"""The share of a window that may be missing and is filled between the values around it; above, nothing was observed."""


def cut_signals(
    rows: Sequence[tuple[Run, Event]], inputs: InputSpec
) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """Each signal of `inputs` by row, (N, channels, samples), and sentences on units that are not given.

    A row is NaN where a channel was not recorded. Raises CorpusError for a column that no recording has, and for one
    whose unit is given and is not the modality's.
    """
    signals = {name: np.full((len(rows), *inputs.shape(name)), np.nan, np.float32) for name in inputs.signals}
    seen: Counter[str] = Counter()  # runs by column
    without_unit: Counter[str] = Counter()
    of_run: dict[str, Mapping[str, Physio]] = {}
    for i, (run, event) in enumerate(rows):
        if run.name not in of_run:
            of_run = {run.name: recorded(run, inputs)}  # rows come run by run
            seen.update(of_run[run.name].keys())
            without_unit.update(column for column, physio in of_run[run.name].items() if column not in physio.units)
        for name, spec in inputs.signals.items():
            if set(spec.channels) <= set(of_run[run.name]):
                channels = [
                    cut(of_run[run.name][column], column, event.onset_s, name, spec.rate_hz, inputs.window_s)
                    for column in spec.channels
                ]
                if all(channel is not None for channel in channels):
                    signals[name][i] = channels
    for name, spec in inputs.signals.items():
        if absent := [column for column in spec.channels if column not in seen]:
            raise CorpusError(f"inputs.signals.{name}.channels: no recording has the column {absent[0]}.")
    return signals, tuple(
        f"{name}: {_no_json(without_unit[column], seen[column])} gives the unit of {column} in {UNITS[name]}: taken as "
        "millionths of it."
        for name, spec in inputs.signals.items()
        for column in spec.channels
        if name in UNITS and without_unit[column]
    )


def _no_json(runs: int, of: int) -> str:
    return "no JSON" if runs == of else f"no JSON of {runs} of {of} runs"


def recorded(run: Run, inputs: InputSpec) -> dict[str, Physio]:
    """Which of the run's recordings holds each of the columns that `inputs` names and are there."""
    wanted = {column for spec in inputs.signals.values() for column in spec.channels}
    holders: dict[str, Physio] = {}
    for path in run.recordings:
        physio = read_physio(path)
        for column in wanted & set(physio.columns):
            if column in holders:
                raise CorpusError(f"{run.name} has the column {column} in two recordings: expected it in one.")
            holders[column] = physio
    return holders


def cut(
    physio: Physio, column: str, onset_s: float, modality: str, rate_hz: float, window_s: float
) -> NDArray[np.float32] | None:
    """One channel from `onset_s` on, prepared: float32 (samples,); None where more than a fifth of it is missing.

    Raises CorpusError for a unit that is given and is not the modality's, and for a window that holds no sample.
    """
    factor = factor_of(modality, column, physio.units.get(column), physio.file)
    first, n = round((onset_s - physio.start_s) * physio.rate_hz), round(window_s * physio.rate_hz)
    if n == 0:
        raise CorpusError(
            f"inputs.window_s is {window_s:g}: expected at least a sample of {physio.file}, at {physio.rate_hz:g} Hz."
        )
    own = physio.values[physio.columns.index(column)]
    low, high = max(first, 0), min(first + n, len(own))
    x = np.full(n, np.nan)
    if low < high:
        x[low - first : high - first] = own[low:high]
    there = np.flatnonzero(np.isfinite(x))
    if len(there) < (1 - MAX_GAP) * n:
        return None
    filled = np.interp(np.arange(n), there, x[there]) * factor
    spec = SignalSpec(channels=(column,), rate_hz=rate_hz)
    if modality in PREPARATIONS:
        return prepare_signal(modality, filled[None].astype(np.float32), physio.rate_hz, spec, window_s).reshape(-1)
    return np.asarray(resample(filled, physio.rate_hz, rate_hz, spec.samples(window_s)), np.float32)
