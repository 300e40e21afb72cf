"""How fast is the service beside other model servers, on the same graph, the same clip and the same cores?

python benchmarks/serving.py --cache ~/.cache/pkdot/benchmarks --model empty --rounds 3 --out serving.json

In every round each server is started in turn, in an environment of its own, and asked by the same closed-loop load
program at each concurrency; then it is ended. Bare onnxruntime is measured in the same rounds, and so is the load
program alone, against a server that does nothing. Client and server share the machine: where both want a core, both
wait. docs/benchmarks.md says how each server is set up, and why.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness import processes
from benchmarks.harness.bundles import MODELS, STUDENT, Served, served
from benchmarks.harness.contenders import OURS, PEERS, clip, program, v2_binary
from benchmarks.harness.environments import environment
from benchmarks.harness.machine import cache_folder, machine
from benchmarks.harness.servers import Program, Server, ServerFailedError, free_port, post, serving

HARNESS: Final = Path(__file__).parent / "harness"
ECHO: Final = "load program alone"
SOCKET: Final = "graph on a socket"
LEAST: Final = (SOCKET, ECHO)
WARM_UP_S: Final = 2.0
HALF: Final = 0.5
TWICE: Final = 2.0
TURNS: Final = 3
"""Of twice the capacity, each between two measurements of it."""
KEPT: Final = ("requests_per_s", "ratio", "asleep_ratio", "p50_ms", "p99_ms", "cpu_ms", "not_ok")
BARE: Final = ("clips_per_s", "asleep_per_s", "side_by_side_per_s", "one_clip_ms")
KEPT_OPEN: Final = (
    "of_capacity", "goodput_per_s", "p50_ms", "p99_ms", "refusal_p50_ms", "refusal_p99_ms", "late_p50_ms",
)  # fmt: skip

Row = dict[str, Any]


def closed_loop(server: Server, concurrency: int, seconds: float, bare: Row) -> Row:
    """What the load program saw, and what follows from it."""
    row = server.load(concurrency=concurrency, seconds=seconds)
    return {
        **row,
        "ratio": row["requests_per_s"] / bare["clips_per_s"],
        "asleep_ratio": row["requests_per_s"] / bare["asleep_per_s"],
        "cpu_ms": 1000 * row["cpu_s"] / max(1, row["answered"]),
        "not_ok": row["requests"] - row["statuses"].get("200", 0),
    }


def measure_server(made: Program, bare: Row, arguments: argparse.Namespace) -> Row:
    """One server, from its start to its end."""
    with serving(made, arguments.cores) as server:
        server.load(concurrency=max(arguments.concurrency), seconds=WARM_UP_S)
        loops = {str(count): closed_loop(server, count, arguments.seconds, bare) for count in arguments.concurrency}
        used = server.memory()
        row: Row = {
            "cold_start_s": server.cold_start_s,
            "pss_mb": used.pss / 1e6,
            "anonymous_mb": used.anonymous / 1e6,
            "processes": len(server.pids()),
            "closed_loop": loops,
        }
        if made.name == OURS:
            best = max(arguments.concurrency, key=lambda count: loops[str(count)]["requests_per_s"])
            row |= limits(server, best, arguments)
        return row


def limits(server: Server, concurrency: int, arguments: argparse.Namespace) -> Row:
    """The open loop below and above the capacity; an answer counts within the deadline, which the request names.

    The machine drifts, so the capacity is what `concurrency` connections get just before and just after.
    """
    request = v2_binary(arguments.served.name, timeout_s=arguments.deadline)
    ask = partial(server.load, request, seconds=arguments.seconds, deadline=arguments.deadline)

    def capacity() -> float:
        return float(server.load(concurrency=concurrency, seconds=arguments.seconds)["requests_per_s"])

    measured = [capacity()]
    half = ask(rate=HALF * measured[0])
    twice = []
    for _ in range(TURNS):
        row = ask(rate=TWICE * measured[-1])
        measured.append(capacity())
        twice.append({**row, "of_capacity": row["goodput_per_s"] / mean(measured[-2:])})
    return {"capacity": median(measured), "half": half, "twice": medians(twice, KEPT_OPEN), "turns": twice}


def measure_bare(model: Served, cores: Sequence[int]) -> Row:
    """onnxruntime on the same cores, as its own process."""
    with processes.pinned(cores):
        command = [sys.executable, str(HARNESS / "bare.py"), "--model", str(model.graph)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def least(name: str, model: Served, port: int) -> Program:
    """The server that does nothing, or nothing but to compute."""
    command = [sys.executable, str(HARNESS / "echo.py"), "--port", str(port)]
    graph = ["--model", str(model.graph)] if name == SOCKET else []
    return Program(name, port, [*command, *graph], post("/", clip(), {}), {}, HARNESS)


def measure(arguments: argparse.Namespace) -> Row:
    """Every round; each begins with another server."""
    names, cores = arguments.peers, arguments.cores
    arguments.served = served(arguments.model, arguments.cache)
    for name in set(names) - {OURS}:
        environment(name, arguments.cache)  # installed before anything is timed
    servers: dict[str, list[Row]] = {name: [] for name in (*names, *LEAST)}
    bare: list[Row] = []
    failures: list[str] = []
    for number in range(arguments.rounds):
        turn = number % len(names)
        bare.append(measure_bare(arguments.served, cores))
        for name in (*names[turn:], *names[:turn], *LEAST):
            print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr)
            port = free_port()
            if name in LEAST:
                made = least(name, arguments.served, port)
            else:
                made = program(name, arguments.served, port, len(cores), arguments.cache)
            try:
                servers[name].append(measure_server(made, bare[-1], arguments))
            except ServerFailedError as error:  # hours of others' figures must not be lost with it
                failures.append(str(error))
                print(error, file=sys.stderr)
    return {
        "machine": machine(),
        "cores": list(cores),
        "model": arguments.model,
        "seconds": arguments.seconds,
        "deadline_s": arguments.deadline,
        "bare": {"median": medians(bare, BARE), "rounds": bare},
        "servers": {name: {"median": server_medians(rows), "rounds": rows} for name, rows in servers.items() if rows},
        "failures": failures,
    }


def medians(rows: Sequence[Row], names: Iterable[str]) -> dict[str, float]:
    """Over the rounds; what was not there in any round is left out."""
    found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: median(values) for name, values in found.items() if values}


def server_medians(rows: Sequence[Row]) -> Row:
    """Over the rounds in which the server went through."""
    loops = {count: medians([row["closed_loop"][count] for row in rows], KEPT) for count in rows[0]["closed_loop"]}
    row: Row = {**medians(rows, ("cold_start_s", "pss_mb", "anonymous_mb", "capacity")), "closed_loop": loops}
    for name in ("half", "twice"):
        if name in rows[0]:
            row[name] = medians([one[name] for one in rows], KEPT_OPEN)
    return row


def table(result: Mapping[str, Any]) -> str:
    """One line for each server and concurrency."""
    bare = result["bare"]["median"]
    lines = [
        f"{result['machine']['processor']}, cores {result['cores']}, model {result['model']}; the client shares them",
        f"bare onnxruntime: {bare['clips_per_s']:.1f} clips/s at best ({result['bare']['rounds'][0]['best']}), "
        f"{bare['asleep_per_s']:.1f} where the threads of a run sleep, "
        f"{bare['side_by_side_per_s']:.1f} by single threads side by side, {bare['one_clip_ms']:.2f} ms for one clip",
        f"{'server':20}{'c':>4}{'req/s':>9}{'ratio':>8}{'asleep':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>8}"
        f"{'not 200':>8}{'PSS MB':>8}{'anon MB':>8}{'start s':>8}",
    ]
    for name, server in result["servers"].items():
        row = server["median"]
        for count, loop in row["closed_loop"].items():
            lines.append(
                f"{name:20}{count:>4}{loop['requests_per_s']:9.1f}{loop['ratio']:8.3f}{loop['asleep_ratio']:8.3f}"
                f"{loop.get('p50_ms', 0):9.2f}{loop.get('p99_ms', 0):9.2f}{loop['cpu_ms']:8.2f}{loop['not_ok']:8.0f}"
                f"{row['pss_mb']:8.0f}{row['anonymous_mb']:8.0f}{row['cold_start_s']:8.2f}"
            )
    if OURS in result["servers"]:
        lines += limit_lines(result["servers"][OURS]["median"], result["deadline_s"])
    return "\n".join([*lines, *(f"failed: {failure.splitlines()[0]}" for failure in result["failures"])])


def limit_lines(row: Mapping[str, Any], deadline_s: float) -> list[str]:
    half, twice, capacity = row["half"], row["twice"], row["capacity"]
    refused = (
        f"refusals take {twice['refusal_p50_ms']:.2f} ms (p99 {twice['refusal_p99_ms']:.2f} ms)"
        if "refusal_p50_ms" in twice
        else "nothing was refused"
    )
    return [
        f"{OURS} at half its capacity of {capacity:.1f}/s: p50 {half['p50_ms']:.2f} ms, p99 {half['p99_ms']:.2f} ms",
        f"{OURS} at twice its capacity: {twice['goodput_per_s']:.1f}/s within {deadline_s:g} s "
        f"({twice['of_capacity']:.2f} of what it has just before and after); {refused}; "
        f"the load program itself was {twice['late_p50_ms']:.2f} ms late",
    ]


def main() -> None:
    """Print one table, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="for environments and bundles")
    parser.add_argument("--model", choices=MODELS, default=STUDENT)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="the others to start; ours always is")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds in which an answer is worth something")
    parser.add_argument("--cores", nargs="+", type=int, default=sorted(os.sched_getaffinity(0)), help="of the server")
    arguments = parser.parse_args()
    arguments.peers = [OURS, *arguments.peers]
    processes.adopt_orphans()
    result = measure(arguments)
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
