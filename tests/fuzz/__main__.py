"""Damaged inputs against a real `pkdot serve`, for minutes or hours; what fails is kept.

python -m tests.fuzz --minutes 60 --seed 1
python -m tests.fuzz --replay runs/fuzz/found/media-1-123.json

Exit code 1 where anything was found: an answer that the contract does not promise, a connection that nothing ended, an
error in the log, a service that died, or one that holds more in the end than after its warm-up.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .campaign import Campaign, tried
from .footprint import Footprint, growth, metrics, settled
from .inputs import Source
from .seeds import make_seeds
from .service import Service, serving
from .structured import search
from .wire import load

WARM_UP_INPUTS: Final = 1_500
WARM_UP_S: Final = 120.0
SCHEMA_CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
ROUND_S: Final = 300.0
STRUCTURED_SHARE: Final = 0.1
"""Of a round."""
SCHEMA_SHARE: Final = 0.1
"""Of the whole time."""


def main() -> int:
    """Print what was sent, what came, and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the time if left out; it is printed")
    parser.add_argument(
        "--keep", type=Path, default=Path("runs/fuzz"), metavar="DIR", help="for inputs that fail, and the log"
    )
    parser.add_argument("--workers", type=int, default=6, help="connections at once")
    parser.add_argument("--schemathesis", metavar="PROGRAM", help="its `st`, to run it over /openapi.json too")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="send one input that was kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as service:
        return replay(service, arguments.replay) if arguments.replay else fuzz(service, arguments)


def replay(service: Service, path: Path) -> int:
    """Send a kept input again."""
    given = load(path)
    answer, verdict = tried(service, given)
    print(f"{answer.took_s:.2f} s: {verdict.outcome}\n{answer.received[:3000].decode('utf-8', 'backslashreplace')}")
    found = [*verdict.findings, *service.complaints()]
    print("\n".join(found))
    return 1 if found else 0


def fuzz(service: Service, arguments: argparse.Namespace) -> int:
    """Warm up, measure, damage, measure again."""
    seconds, campaign = 60 * arguments.minutes, Campaign(service, arguments.keep)
    source, numbers = Source(arguments.seed, make_seeds(), service.models()), itertools.count()
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {arguments.workers} connections", flush=True)
    until_s = time.monotonic() + seconds
    campaign.run(source, itertools.islice(numbers, WARM_UP_INPUTS), arguments.workers, min(WARM_UP_S, seconds / 4))
    warm = settled(service.footprint)
    conforms = arguments.schemathesis is None or schemathesis(
        service, arguments.schemathesis, arguments.seed, seconds * SCHEMA_SHARE
    )
    for round_number in itertools.count(arguments.seed):
        left_s = min(ROUND_S, until_s - time.monotonic())
        if left_s <= 0 or service.process.poll() is not None:
            break
        campaign.run(source, numbers, arguments.workers, left_s * (1 - STRUCTURED_SHARE))
        search(campaign, source, round_number, left_s * STRUCTURED_SHARE)
        print(progress(campaign, seconds - (until_s - time.monotonic())), flush=True)
    found = [*campaign.problems(), *([] if conforms else ["schemathesis found something"])]
    if service.process.poll() is None:
        cold = settled(service.footprint, warm)
        found += growth(warm, cold)
        report(campaign, warm, cold)
    (arguments.keep / "log").parent.mkdir(parents=True, exist_ok=True)
    (arguments.keep / "log").write_bytes(service.log.read_bytes())
    print("\n".join(found) or "nothing was found")
    return 1 if found else 0


def schemathesis(service: Service, program: str, seed: int, seconds: float) -> bool:
    """Run it over /openapi.json; whether all was as described."""
    address = f"http://127.0.0.1:{service.port}/openapi.json"
    command = [
        program,
        "--config-file",
        str(SCHEMA_CONFIG),
        "run",
        address,
        f"--seed={seed}",
        f"--max-time={seconds:.0f}",
    ]
    return subprocess.run(command, check=False).returncode == 0


def progress(campaign: Campaign, after_s: float) -> str:
    """A line for those who wait."""
    found = campaign.findings.total()
    rate = campaign.count / campaign.busy_s
    return f"{after_s / 60:.0f} min: {campaign.count} inputs, {rate:.1f} a second; {found} found"


def report(campaign: Campaign, warm: Footprint, cold: Footprint) -> None:
    """What was sent and answered, and what the service held after its warm-up and in the end."""
    print(f"{campaign.count} inputs, {campaign.count / campaign.busy_s:.1f} a second")
    print(f"the slowest answer took {campaign.slowest_s:.1f} s")
    print(table("inputs", campaign.kinds.most_common()))
    print(table("outcomes", campaign.outcomes.most_common()))
    exits = metrics(campaign.service.port).items()
    print(table("decoders", [(name, int(value)) for name, value in exits if "decoder_exits_total{" in name]))
    for name, was, now in zip(Footprint._fields, warm, cold, strict=True):
        print(f"{name}: {was:.0f} after the warm-up, {now:.0f} in the end")


def table(title: str, rows: Sequence[tuple[str, int]]) -> str:
    return "\n".join([f"{title}:", *(f"  {count:8d}  {name}" for name, count in rows)])


if __name__ == "__main__":
    sys.exit(main())
