"""Does the service's memory grow under full load? Is it up soon, and how much does it need?

python benchmarks/soak.py --minutes 15 --out soak.json
python benchmarks/soak.py --minutes 5 --leak     the same with an app that keeps 16 kB of each request: must be caught

Tensors come in a closed loop, and so do whole recordings where there is a clip. Each second RssAnon and swap of the
service's processes are added up: what was allocated, without the files that are mapped. A process counts once it has
lived for ten seconds: the child that decodes one recording ends with it, and shares its pages with its parent, which
RssAnon would count twice. The growth is the slope by Theil and Sen over the second half, the median of the slopes
between all pairs of samples: single bursts do not move it. Ends with exit code 1 where the service grows, or where
the leak is not seen.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from scipy.stats import theilslopes

from benchmarks.harness import processes
from benchmarks.harness.bundles import demo_bundles, served
from benchmarks.harness.contenders import ours, v2_binary
from benchmarks.harness.machine import cache_folder, machine
from benchmarks.harness.servers import Program, Server, ask, form, free_port, load_command, post, serving

CLIP: Final = Path(__file__).parents[2] / "shared" / "data" / "clips" / "single_face.mp4"
READY: Final = b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n"
TENSORS: Final = 14
RECORDINGS: Final = 2
"""Connections of each kind."""
STARTS: Final = 5
EVERY_S: Final = 1.0
LASTING_S: Final = 10.0
MOST_MB_PER_MINUTE: Final = 0.5
"""More is growth; less cannot be told from the noise of a quarter of an hour."""

Row = dict[str, Any]


def theil_sen(times_s: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points.

    >>> theil_sen([0, 1, 2, 3, 4], [0, 2, 4, 6, 100])
    2.0
    """
    return float(theilslopes(values, times_s).slope)


def start_seconds(program: Program, cores: Sequence[int]) -> list[float]:
    """Seconds from the start to the first 200 of /health/ready, again and again."""
    found = []
    for _ in range(STARTS):
        with serving(program, cores) as server:
            found.append(server.cold_start_s)
    return found


def requests(model: str, port: int, clip: Path) -> dict[bytes, int]:
    """What is sent, and over how many connections."""
    sent = {v2_binary(model): TENSORS}
    if clip.is_file():
        body, headers = form("video", clip.name, clip.read_bytes())
        video = post("/predict/pain", body, headers)
        if ask(port, video) == 200:
            sent[video] = RECORDINGS
    return sent


def soak(server: Server, model: str, seconds: float, clip: Path) -> Row:
    """Load for `seconds`, with a sample of the memory each second."""
    sent = requests(model, server.port, clip)
    since_s = dict.fromkeys(server.pids(), -LASTING_S)
    samples: list[tuple[float, int]] = []
    with ExitStack() as stack:
        loads = []
        for request, connections in sent.items():
            file = stack.enter_context(tempfile.NamedTemporaryFile())
            file.write(request)
            file.flush()
            command = load_command(
                server.port, Path(file.name), {"concurrency": connections, "seconds": seconds, "deadline": 60}
            )
            loads.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        besides = {load.pid for load in loads}
        begin_s = time.monotonic()
        while (at_s := time.monotonic() - begin_s) < seconds:
            alive = server.pids() - besides
            since_s = {pid: since_s.get(pid, at_s) for pid in alive}
            lasting = {pid for pid in alive if at_s - since_s[pid] >= LASTING_S}
            samples.append((at_s, processes.anonymous_bytes(lasting)))
            time.sleep(EVERY_S)
        answers = [json.loads(load.communicate()[0]) for load in loads]
    half = [sample for sample in samples if sample[0] >= seconds / 2]
    slope = theil_sen([at_s for at_s, _ in half], [used for _, used in half])
    return {
        "seconds": seconds,
        "requests": [answer["answered"] for answer in answers],
        "statuses": [answer["statuses"] for answer in answers],
        "slope_mb_per_minute": 60 * slope / 1e6,
        "anonymous_mb": [used / 1e6 for _, used in samples],
        "pss_mb": server.memory().pss / 1e6,
    }


def measure(arguments: argparse.Namespace) -> Row:
    """Starts with both of the demo's bundles, and a soak."""
    bundles, model = demo_bundles(arguments.cache), served("student", arguments.cache)
    cores = sorted(os.sched_getaffinity(0))
    program = replace(ours(bundles, model.name, free_port()), request=READY)
    starts = start_seconds(program, cores)
    if arguments.leak:
        program = replace(program, command=leaking(program.command))
    with serving(program, cores) as server:
        soaked = soak(server, model.name, 60 * arguments.minutes, arguments.clip)
    return {
        "machine": machine(),
        "cores": cores,
        "leak": arguments.leak,
        "start_s": median(starts),
        "starts_s": starts,
        "most_mb_per_minute": MOST_MB_PER_MINUTE,
        "grows": soaked["slope_mb_per_minute"] > MOST_MB_PER_MINUTE,
        **soaked,
    }


def leaking(command: Sequence[str]) -> list[str]:
    """The same service, with an app that leaks."""
    return [sys.executable, "-m", "benchmarks.harness.leaking", *command[command.index("serve") + 1 :]]


def table(result: Mapping[str, Any]) -> str:
    used = result["anonymous_mb"]
    return "\n".join(
        [
            f"{result['machine']['processor']}, cores {result['cores']}{', with a leak' if result['leak'] else ''}",
            f"ready {result['start_s']:.2f} s after the start with both bundles (median of {STARTS})",
            f"{result['seconds']:.0f} s of load: requests and statuses {result['statuses']}",
            f"RssAnon and swap: {used[0]:.0f} MB at first, {used[len(used) // 2]:.0f} MB at half, {used[-1]:.0f} MB in "
            f"the end; PSS {result['pss_mb']:.0f} MB",
            f"slope over the second half: {result['slope_mb_per_minute']:+.3f} MB a minute: "
            f"{'grows' if result['grows'] else 'does not grow'} (limit {MOST_MB_PER_MINUTE:g})",
        ]
    )


def main() -> int:
    """Print one table, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="for bundles")
    parser.add_argument("--clip", type=Path, default=CLIP, help="a video that shows a face")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--leak", action="store_true", help="the negative control: leak, and be caught")
    arguments = parser.parse_args()
    processes.adopt_orphans()
    result = measure(arguments)
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(result))
    return 0 if result["grows"] == arguments.leak else 1


if __name__ == "__main__":
    sys.exit(main())
