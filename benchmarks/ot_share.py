"""Which share of a training step of the default video student goes into the structural OT loss?

    python benchmarks/ot_share.py --out ot_share.json

A step here: the student of training/configs/synthetic-pain.yaml on random pictures, task loss and OT loss, backward,
clipping, AdamW. The teacher's forward pass, the T-Net's loss and augmentation are left out, so a real step is longer
and the share smaller. The OT loss's part is its similarity matrices, anchors, solution and gradient at z, timed alone
in turns with the whole step.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from models.nets.student import Student
from models.spec import FACE
from training.config import load_config
from training.losses.ot import structural_ot
from training.losses.task import corn_loss

RECIPE = Path(__file__).parents[1] / "training" / "configs" / "synthetic-pain.yaml"
LEVELS = 5
BATCH, K = 128, 30
"""The paper's."""


class Step:
    """One student, one batch, and what a step does with them."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        config = load_config(RECIPE)
        self.config = config.student
        self.student = Student(
            (FACE,), config.missing((FACE,)), config.inputs, config.network, task="pain", outputs=LEVELS - 1
        ).to(device)
        self.optimiser = torch.optim.AdamW(self.student.parameters(), lr=self.config.learning_rate)
        self.pictures = torch.randint(0, 256, (BATCH, *config.inputs.shape(FACE)), dtype=torch.uint8, device=device)
        self.levels = torch.arange(BATCH, device=device) % LEVELS
        centres, spread = torch.randn(LEVELS, config.network.dim), torch.randn(BATCH, config.network.dim)
        self.z_teacher = (3 * centres.to(device))[self.levels] + spread.to(device)  # clusters, as a teacher makes them

    def ot_loss(self, z: Tensor) -> Tensor:
        return self.config.ot_weight * structural_ot(z, self.z_teacher, k=K, blur=self.config.blur)

    def whole(self) -> None:
        out = self.student({FACE: self.pictures})
        loss = corn_loss(out.output, self.levels) + self.ot_loss(out.z)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimiser.step()

    def ot_alone(self, z: Tensor) -> None:
        self.ot_loss(z.requires_grad_(True)).backward()  # type: ignore[no-untyped-call]


def seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(turns: int) -> dict[str, float]:
    """Medians over `turns` of the whole step and of the OT loss, in milliseconds, and their ratio."""
    step = Step(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    wholes, parts = [], []
    for _ in range(turns + 1):
        wholes.append(seconds(step.whole))
        with torch.no_grad():
            z = step.student({FACE: step.pictures}).z
        parts.append(seconds(partial(step.ot_alone, z)))
    step_ms, ot_ms = (1e3 * median(times[1:]) for times in (wholes, parts))  # the first turn allocates memory
    return {"batch": BATCH, "k": K, "step_ms": step_ms, "ot_ms": ot_ms, "share": ot_ms / step_ms}


def main() -> None:
    """Print one line, write one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ot_share.json"))
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    found = measure(arguments.turns)
    print(
        f"B = {BATCH}, k = {K}, {torch.get_num_threads()} threads: a step takes {found['step_ms']:.0f} ms, "
        f"the OT loss {found['ot_ms']:.1f} ms of it: {found['share']:.2%}"
    )
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
