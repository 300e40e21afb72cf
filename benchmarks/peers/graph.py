"""The graph that every one of these servers runs: the same file, the same runtime, the same number of threads."""

import os
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Clips = NDArray[np.uint8]
Outputs = NDArray[np.float32]

SHAPE = (10, 112, 112, 3)
MAX_BATCH = int(os.environ["BENCHMARK_MAX_BATCH"])
PORT = int(os.environ["BENCHMARK_PORT"])


def open_graph() -> Callable[[Clips], Outputs]:
    """uint8 (batch, *SHAPE) to float32 (batch, outputs); may be called from several threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["BENCHMARK_THREADS"])
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", os.environ["BENCHMARK_SPINNING"])
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(os.environ["BENCHMARK_MODEL"], options, providers=["CPUExecutionProvider"])
    fed, given = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(clips: Clips) -> Outputs:
        output: Outputs = session.run([given], {fed: clips})[0]
        return output

    run(np.zeros((1, *SHAPE), np.uint8))
    return run


def clip_from(data: bytes) -> Clips:
    """One clip, uint8 SHAPE."""
    return np.frombuffer(data, np.uint8).reshape(SHAPE)
