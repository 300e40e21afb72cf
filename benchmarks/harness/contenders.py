"""How each server is started on the same graph, and the request that each is sent: one clip, in its own binary form."""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.harness.bundles import INPUT, Served
from benchmarks.harness.environments import AWAKE, REQUIREMENTS, environment
from benchmarks.harness.servers import Program, form, post

OURS: Final = "pkdot"
PEERS: Final = ("fastapi", f"fastapi{AWAKE}", "litserve", "bentoml", "ray", "mlserver")
SHAPE: Final = (10, 112, 112, 3)
RAW_OUTPUT: Final = "logits"
"""Of every bundle that is served here."""
MAX_BATCH: Final = 8
"""For every peer; on a CPU larger ones only make others wait."""
ROOT: Final = Path(__file__).parents[2]


def clip() -> bytes:
    """One clip of noise."""
    return np.random.default_rng(1).integers(0, 256, SHAPE, np.uint8).tobytes()


def program(name: str, model: Served, port: int, cores: int, cache: Path) -> Program:
    """The server `name`, on `model`, with as many threads inside the graph as there are `cores`."""
    if name == OURS:
        return ours(model.folder, model.name, port)
    kind = name.removesuffix(AWAKE)
    programs = environment(name, cache)
    shared = {
        "BENCHMARK_MODEL": str(model.graph),
        "BENCHMARK_THREADS": str(cores),
        "BENCHMARK_SPINNING": str(int(name != kind)),
        "BENCHMARK_MAX_BATCH": str(MAX_BATCH),
        "BENCHMARK_PORT": str(port),
        "PYTHONPATH": str(REQUIREMENTS),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    python, script = str(programs / "python"), str(REQUIREMENTS / f"{kind}_server.py")
    body, headers = form("clips" if name == "bentoml" else "clip", "clip", clip())
    raw = post("/predict", clip(), {"content-type": "application/octet-stream"})
    folder = cache.absolute() / "servers" / name
    folder.mkdir(parents=True, exist_ok=True)
    match kind:
        case "fastapi":
            return Program(name, port, [python, script], raw, shared, folder)
        case "litserve":
            return Program(name, port, [python, script], post("/predict", body, headers), shared, folder)
        case "bentoml":
            serve = ["serve", "bentoml_server:Model", "--working-dir", str(REQUIREMENTS), "--port", str(port)]
            quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder), "BENTOML_CONFIG_OPTIONS": QUIET}
            command = [str(programs / "bentoml"), *serve, "--host", "127.0.0.1"]
            return Program(name, port, command, post("/predict", body, headers), {**shared, **quiet}, folder)
        case "ray":
            tuned = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
            return Program(name, port, [python, script], raw, {**shared, **tuned}, folder)
        case "mlserver":
            write_mlserver_settings(folder, port)
            return Program(name, port, [str(programs / "mlserver"), "start", str(folder)], v2_base64(), shared, folder)
        case _:
            raise ValueError(f"there is no server {name!r}; there are {', '.join((OURS, *PEERS))}")


QUIET: Final = "api_server.logging.access.enabled=false"


def ours(bundles: Path, model: str, port: int) -> Program:
    """`pkdot serve` on a folder of bundles, asked for tensors of `model`."""
    command = [sys.executable, "-m", "service", "serve", "--bundles", str(bundles), "--port", str(port)]
    return Program(OURS, port, command, v2_binary(model), {"PKDOT_DRAIN_S": "0"}, ROOT)


def v2_binary(model: str, timeout_s: float | None = None) -> bytes:
    """The Open Inference Protocol with its binary extension, both ways. What is asked for is what the peers answer."""
    content = clip()
    size = {"binary_data_size": len(content)}
    tensor = {"name": INPUT, "shape": [1, *SHAPE], "datatype": "UINT8", "parameters": size}
    asked = {"outputs": [{"name": RAW_OUTPUT}], "parameters": {"binary_data_output": True}}
    text = json.dumps({"inputs": [tensor], **asked}).encode("ascii")
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    if timeout_s is not None:
        headers["x-request-timeout"] = f"{timeout_s:g}"
    return post(f"/v2/models/{model}/infer", text + content, headers)


def v2_base64() -> bytes:
    """The Open Inference Protocol with MLServer's base64 codec."""
    tensor = {"name": INPUT, "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    text = json.dumps({"inputs": [{**tensor, "data": [base64.b64encode(clip()).decode("ascii")]}]})
    return post("/v2/models/clip/infer", text.encode("ascii"), {"content-type": "application/json"})


def write_mlserver_settings(folder: Path, port: int) -> None:
    """One model in the server's own process, and batches of what waits."""
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "metrics_dir": str(folder / "metrics"),
        "environments_dir": str(folder / "environments"),
        "gzip_enabled": False,
    }
    model = {"name": "clip", "implementation": "mlserver_model.Model", "max_batch_size": MAX_BATCH}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps({**model, "max_batch_time": 0.001}), encoding="utf-8")
