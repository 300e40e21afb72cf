"""BentoML: a file in a form, its own adaptive batching."""

from pathlib import Path

import bentoml
import numpy as np
from graph import MAX_BATCH, clip_from, open_graph


@bentoml.service(workers=1, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self.run = open_graph()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000)
    def predict(self, clips: list[Path]) -> list[list[float]]:
        batch = np.stack([clip_from(path.read_bytes()) for path in clips])
        return [[float(value) for value in row] for row in self.run(batch)]
