"""A BIDS data set of one person: 20 s of skin conductance and breath, and four events."""

import numpy as np
from numpy.typing import NDArray

from models.spec import InputSpec, SignalSpec

RATE_HZ, START_S = 50.0, -2.0


INPUTS = InputSpec(
    window_s=4.0,
    hop_s=4.0,
    signals={
        "eda": SignalSpec(channels=("skin",), rate_hz=10),
        "breath": SignalSpec(channels=("respiratory",), rate_hz=5),
    },
)


EVENTS = "onset\tduration\ttrial_type\n1.0\t0\tlow\n6.0\t2\thigh\n11.0\t2\tn/a\n12.0\t2\tcue\n"


def ramps(n: int = 1000) -> NDArray[np.float64]:
    """20 s from -2 s on: skin conductance in volts of nothing, 3 + time; and breath, minus time."""
    time_s = np.arange(n) / RATE_HZ + START_S
    return np.stack([3 + time_s, -time_s], axis=1)
