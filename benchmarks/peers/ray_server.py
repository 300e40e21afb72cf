"""Ray Serve: raw bytes in, its own batching, one replica."""

import asyncio
import os

import numpy as np
import ray
from graph import MAX_BATCH, PORT, clip_from, open_graph
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=100)
class Model:
    def __init__(self) -> None:
        self.run = open_graph()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)
    async def compute(self, bodies: list[bytes]) -> list[bytes]:
        batch = np.stack([clip_from(body) for body in bodies])
        return [row.tobytes() for row in await asyncio.to_thread(self.run, batch)]

    async def __call__(self, request: Request) -> Response:
        return Response(await self.compute(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=int(os.environ["BENCHMARK_THREADS"]), include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Model.bind(), route_prefix="/predict", blocking=True)
