"""onnxruntime without a server: clips a second for each batch size and number of threads. Prints one JSON object.

python benchmarks/harness/bare.py --model graph.onnx --seconds 0.5
"""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

BATCHES: Final = (1, 2, 4, 8)
SHAPE: Final = (10, 112, 112, 3)
LEAST_RUNS: Final = 3


def open_session(model: Path, threads: int, *, awake: bool = True) -> Any:
    """The threads of a run wait for each other awake or asleep, and sleep between runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if awake and threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def clips_per_s(session: Any, batch: int, seconds: float) -> float:
    """One run after another, for `seconds` and at least three times."""
    fed = {session.get_inputs()[0].name: np.random.default_rng(0).integers(0, 256, (batch, *SHAPE), np.uint8)}
    session.run(None, fed)
    runs, begin_s = 0, time.perf_counter()
    while runs < LEAST_RUNS or time.perf_counter() - begin_s < seconds:
        session.run(None, fed)
        runs += 1
    return runs * batch / (time.perf_counter() - begin_s)


def measure(model: Path, seconds: float) -> dict[str, Any]:
    """Every batch size with every number of threads, which wait for each other awake or asleep; and as many runs of one
    thread side by side as there are cores."""
    cores = len(os.sched_getaffinity(0))
    sessions = {threads: open_session(model, threads) for threads in range(1, cores + 1)}
    asleep = {threads: open_session(model, threads, awake=False) for threads in range(2, cores + 1)}
    rates: dict[str, float] = {}
    asleep_rates: dict[str, float] = {}
    for batch in BATCHES:
        for threads, session in sessions.items():
            name = f"batch {batch}, {threads} threads"
            rates[name] = clips_per_s(session, batch, seconds)
            asleep_rates[name] = clips_per_s(asleep[threads], batch, seconds) if threads in asleep else rates[name]
    with ThreadPoolExecutor(cores) as pool:
        together = pool.map(lambda _: clips_per_s(sessions[1], 1, seconds), range(cores))
        side_by_side = sum(together)
    best = max(rates, key=lambda name: rates[name])
    alone_s = 1 / max(rate for name, rate in rates.items() if name.startswith("batch 1,"))
    return {
        "clips_per_s": rates[best],
        "best": best,
        "asleep_per_s": max(asleep_rates.values()),
        "side_by_side_per_s": side_by_side,
        "one_clip_ms": 1000 * alone_s,
        "rates": rates,
        "asleep_rates": asleep_rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.model, arguments.seconds)))


if __name__ == "__main__":
    main()
