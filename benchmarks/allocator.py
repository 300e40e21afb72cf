"""What does keeping freed memory bring? One training step of the face encoder, with and without, in turns.

python benchmarks/allocator.py --out allocator.json
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

STEP = """
import sys, time
from training.loop.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
import torch
from models.nets.video import FaceEncoder
from models.spec import FaceSpec
net = FaceEncoder(FaceSpec(), dim=64, steps=5)
frames = torch.randint(0, 256, (32, 10, 112, 112, 3), dtype=torch.uint8)
times = []
for _ in range(12):
    begin = time.perf_counter()
    net(frames).square().sum().backward()
    times.append(time.perf_counter() - begin)
print(sorted(times[2:])[5], torch.__version__, torch.get_num_threads())
"""


def run(mode: str) -> tuple[float, str, str]:
    """Median seconds of a step in a fresh process: the setting holds for a process's whole life."""
    done = subprocess.run([sys.executable, "-c", STEP, mode], capture_output=True, text=True, check=True)
    seconds, torch_version, threads = done.stdout.split()
    return float(seconds), torch_version, threads


def main() -> None:
    """Interleave both sides, print one table, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("allocator.json"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds = [(run("plain"), run("keep")) for _ in range(arguments.rounds)]
    ratios = [plain[0] / keep[0] for plain, keep in rounds]
    result = {
        "machine": platform.processor() or platform.machine(),
        "torch": rounds[0][0][1],
        "threads": rounds[0][0][2],
        "plain_s": median(plain[0] for plain, _ in rounds),
        "keep_s": median(keep[0] for _, keep in rounds),
        "ratio": median(ratios),
        "ratios": ratios,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"torch {result['torch']}, {result['threads']} threads, batch of 32 windows of 10 frames")
    print(f"plain {result['plain_s']:.3f} s, kept {result['keep_s']:.3f} s a step: {result['ratio']:.2f} times as fast")


if __name__ == "__main__":
    main()
