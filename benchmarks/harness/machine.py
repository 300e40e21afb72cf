"""Where a figure comes from: the machine, and the folder that keeps what is made once."""

import os
import platform
from pathlib import Path

import onnxruntime

from training.files.cache_folder import cache_root


def machine() -> dict[str, str]:
    """Processor, cores, kernel and versions."""
    table = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = (line.partition(": ")[2] for line in table if line.startswith("model name"))
    return {
        "processor": f"{next(named, platform.machine())}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def cache_folder() -> Path:
    """`benchmarks` in this user's cache, which PKDOT_CACHE_DIR may name."""
    return cache_root() / "benchmarks"
