"""Is the OT loss right, and what does it cost? Ours beside geomloss and POT, forward and backward, in turns.

    pip install geomloss==0.3.1    # not a dependency; without it its rows are left out
    python benchmarks/ot_loss.py --out ot_loss.json

Inputs are what the loss meets: rows of similarity matrices of class-clustered embeddings. Errors are measured against
our own solution in float64, to which POT's agrees as far as it converges; the value's error is relative to
max(S, mean cost / 100), the gradient's to its norm.

Of POT: `ot.bregman.sinkhorn_log`, differentiated through its iterations; `ot.solve` on three cost matrices;
`ot.solve_sample`, which can debias by itself; and `ot.batch.solve_batch`, which solves the three problems as one
tensor. A method that takes more than a second runs once instead of in every turn.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import ot
import ot.batch
import torch
from torch import Tensor

from training.losses.ot import anchor_columns, anchor_rows, similarity
from training.losses.sinkhorn import half_squared_distances, sinkhorn_divergence

SIZES = ((64, 15), (128, 30), (256, 60), (512, 120))
BLUR = 0.1
Loss = Callable[[Tensor, Tensor], Tensor]


def rows(batch: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """The two clouds (B, k) that the loss compares, float32."""
    rng = np.random.default_rng(seed)
    centres, classes = rng.normal(size=(5, 32)), rng.integers(0, 5, batch)
    teacher = torch.from_numpy(centres[classes] + 0.4 * rng.normal(size=(batch, 32))).float()
    student = torch.from_numpy(0.5 * centres[classes] + rng.normal(size=(batch, 32))).float()
    s_teacher = similarity(teacher)
    columns = anchor_columns(s_teacher, k, "farthest")
    return anchor_rows(similarity(student), columns), anchor_rows(s_teacher, columns)


def pot_divergence(entropic: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """The debiased divergence from an entropic OT value of (weights, weights, cost)."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        def value(a: Tensor, b: Tensor) -> Tensor:
            weights = [a.new_full((len(z),), 1 / len(z)) for z in (a, b)]
            return entropic(weights[0], weights[1], half_squared_distances(a, b))

        return value(x, y) - 0.5 * value(x, x) - 0.5 * value(y, y)

    return loss


def pot_log(a: Tensor, b: Tensor, cost: Tensor) -> Tensor:
    plan = ot.bregman.sinkhorn_log(a, b, cost, BLUR**2, numItermax=2000, stopThr=1e-6, warn=False)
    plan = plan.clamp_min(torch.finfo(plan.dtype).tiny)  # the logarithm of nothing has no gradient
    total: Tensor = (plan * cost).sum() + BLUR**2 * (plan * (plan / torch.outer(a, b)).log()).sum()
    return total


def pot_solve(a: Tensor, b: Tensor, cost: Tensor) -> Tensor:
    value: Tensor = ot.solve(cost, a, b, reg=BLUR**2, reg_type="KL", max_iter=2000, tol=1e-6, grad="envelope").value
    return value


def pot_solve_sample(x: Tensor, y: Tensor) -> Tensor:
    """With the cost |x - y|^2, twice ours, and therefore twice our epsilon."""
    solved = ot.solve_sample(x, y, reg=2 * BLUR**2, max_iter=2000, tol=1e-6, grad="envelope", debias=True)
    value: Tensor = solved.value / 2
    return value


def pot_batch(x: Tensor, y: Tensor) -> Tensor:
    """The three problems of clouds of one size as one batch."""
    costs = torch.stack([half_squared_distances(a, b) for a, b in ((x, y), (x, x), (y, y))])
    between, within_x, within_y = ot.batch.solve_batch(
        costs, reg=BLUR**2, reg_type="kl", max_iter=2000, tol=1e-6, grad="envelope"
    ).value
    value: Tensor = between - 0.5 * within_x - 0.5 * within_y
    return value


def methods() -> dict[str, Loss]:
    """Everything that is here to be compared."""
    chosen: dict[str, Loss] = {"ours": lambda x, y: sinkhorn_divergence(x, y, blur=BLUR)}
    try:
        from geomloss import SamplesLoss
    except ImportError:
        print("geomloss is not installed (pip install geomloss==0.3.1): its rows are left out")
    else:
        for scaling in (0.5, 0.9, 0.99):
            chosen[f"geomloss {scaling}"] = SamplesLoss("sinkhorn", p=2, blur=BLUR, scaling=scaling)
    chosen["POT sinkhorn_log"] = pot_divergence(pot_log)
    chosen["POT solve"] = pot_divergence(pot_solve)
    chosen["POT solve_sample"] = pot_solve_sample
    chosen["POT batch"] = pot_batch
    return chosen


def run(loss: Loss, x: Tensor, y: Tensor) -> tuple[float, float, Tensor]:
    """Seconds, value and gradient of one forward and backward."""
    x = x.clone().requires_grad_(True)
    begin = time.perf_counter()
    value = loss(x, y)
    value.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - begin
    assert x.grad is not None
    return seconds, float(value.detach()), x.grad.double()


def compare(batch: int, k: int, repeats: int) -> dict[str, dict[str, float]]:
    """One size: medians over `repeats` turns, in which every method runs once."""
    x, y = rows(batch, k, seed=0)
    _, exact, gradient = run(lambda a, b: sinkhorn_divergence(a, b, blur=BLUR), x.double(), y.double())
    scale = max(abs(exact), 0.01 * float(half_squared_distances(x.double(), y.double()).mean()))
    losses = methods()
    first = {name: run(loss, x, y) for name, loss in losses.items()}
    slow = {name for name, (took_s, _, _) in first.items() if took_s > 1.0}
    turns = [
        {name: first[name] if name in slow else run(loss, x, y) for name, loss in losses.items()}
        for _ in range(repeats)
    ]
    table = {}
    for name in losses:
        own = [turn[name] for turn in turns]
        ratios = [turn["ours"][0] / turn[name][0] for turn in turns]
        table[name] = {
            "ms": 1e3 * median(seconds for seconds, _, _ in own),
            "ours / this": median(ratios),
            "value error": abs(own[-1][1] - exact) / scale,
            "gradient error": float((own[-1][2] - gradient).norm() / gradient.norm()),
        }
    return table


def main() -> None:
    """Print one table for each size, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ot_loss.json"))
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    versions = {name: importlib.metadata.version(name) for name in ("torch", "POT", "numpy")}
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads, {versions}")
    result: dict[str, object] = {"versions": versions, "threads": torch.get_num_threads(), "blur": BLUR}
    for batch, k in SIZES:
        table = compare(batch, k, arguments.repeats)
        result[f"{batch}x{k}"] = table
        print(f"\nB = {batch}, k = {k:<12}{'ms':>10}{'ours / this':>14}{'value error':>14}{'gradient error':>16}")
        for name, row in table.items():
            print(
                f"{name:26}{row['ms']:10.2f}{row['ours / this']:14.2f}{row['value error']:14.1e}"
                f"{row['gradient error']:16.1e}"
            )
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
