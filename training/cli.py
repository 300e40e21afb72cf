"""The commands that make a bundle: demo, corpus, train, evaluate, export, compare.

torch takes seconds to import, so each command does it after what needs none: help, and what is wrong at first sight.
"""

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeAlias

from models.bundle import MANIFEST, BundleError
from models.inputs.media.media import MediaError
from models.inputs.signals import SignalError
from models.nets.errors import HuggingFaceError, WeightsFileError
from training.config import ConfigError, load_config
from training.corpora.clip import CorpusError
from training.corpora.splits import SplitError
from training.errors import NotConverged, TrainingError
from training.face_nets.fetch import FaceNetsMissingError
from training.files.replacing import FolderInUseError, FolderUnusableError, require_replaceable, require_usable
from training.loop.allocator import keep_freed_memory
from training.stages.methods import ABLATIONS, BASIC, METHODS, ROWS, VARIATIONS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], object]

USED_WRONGLY = (
    ConfigError, CorpusError, FolderInUseError, FolderUnusableError, SplitError, SignalError, MediaError,
    FaceNetsMissingError, WeightsFileError, HuggingFaceError,
)  # fmt: skip
FAILED = (TrainingError, NotConverged, BundleError, BrokenProcessPool, OSError)

SYNTHETIC_KINDS = ("biovid", "affwild2", "features")
CHECKED_KINDS = (*SYNTHETIC_KINDS, "bids")
GROUPS = {"all": METHODS, "variations": VARIATIONS, "ablations": ABLATIONS}
"""Names that stand for several rows."""


def add_commands(commands: Commands) -> None:
    """Mount this half's commands."""
    demo = _command(
        commands, "demo", "the whole line on the synthetic corpora: train, export, serve, ask", "pkdot demo", _demo
    )
    demo.add_argument("--out", type=_folder, default=Path("runs/demo"), help="folder of the runs and bundles")
    demo.add_argument("--port", type=_port, default=8000, help="where the service listens (default 8000)")
    _corpus(commands)
    train = _command(
        commands, "train", "teacher, T-Net, student, evaluation, export",
        "pkdot train training/configs/synthetic-pain.yaml --set student.ot_weight=0.4", _train,
    )  # fmt: skip
    _add_recipe(train)
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    evaluate = _command(
        commands, "evaluate", "score a run again on its test people", "pkdot evaluate runs/synthetic-pain", _evaluate
    )
    evaluate.add_argument("run_folder", metavar="RUN", type=Path)
    export = _command(
        commands, "export", "write a run's bundle", "pkdot export runs/synthetic-pain bundles/pain", _export
    )
    export.add_argument("run_folder", metavar="RUN", type=Path)
    export.add_argument("to", metavar="DIR", type=_folder)
    compare = _command(
        commands, "compare", "the table of methods over seeds and folds",
        "pkdot compare training/configs/synthetic-*.yaml --seeds 3", _compare,
    )  # fmt: skip
    compare.add_argument("configs", metavar="CONFIG.yaml", type=Path, nargs="+")
    compare.add_argument("--set", metavar="a.b=c", action="append", default=[], dest="overrides")
    compare.add_argument(
        "--out", type=_folder, default=Path("runs/compare"), help="folder; finished rows in it are kept"
    )
    compare.add_argument(
        "--methods", metavar="NAME", nargs="+", choices=[*GROUPS, *ROWS], default=list(BASIC),
        help=f"rows beside the teacher: {', '.join(GROUPS)}, or names that docs/methods.md explains "
        f"(default: {'; '.join(BASIC)})",
    )  # fmt: skip
    compare.add_argument("--seeds", type=_count, default=3, help="how many, counted from 0 (default 3)")
    compare.add_argument("--folds", type=_count, help="only so many of the protocol's folds, from the first")
    compare.add_argument("--jobs", type=_count, default=1, help="so many seeds and folds at once (default 1)")


def _command(commands: Commands, name: str, what: str, example: str, run: Run) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what, epilog=f"example: {example}"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=lambda arguments: _guarded(run, arguments))
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not text:  # Path would take it for the folder in which the command runs
        raise argparse.ArgumentTypeError("expected the path of a folder, got ''")
    return Path(text)


def _guarded(run: Run, arguments: argparse.Namespace) -> int:
    """Errors that a user can mend end in one sentence: 2 for wrong use or input, 1 for a failure while running."""
    keep_freed_memory()
    try:
        result = run(arguments)
    except USED_WRONGLY as error:
        print(f"pkdot: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise  # whoever reads what is printed has left: `pkdot.main` minds that
    except FAILED as error:
        print(f"pkdot: {error}", file=sys.stderr)
        return 1
    if isinstance(result, str):
        print(result)
    elif result is not None:
        print(json.dumps(result, indent=1, sort_keys=arguments.json))
    return 0


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", type=Path)
    parser.add_argument("--set", metavar="a.b=c", action="append", default=[], dest="overrides")
    parser.add_argument("--out", type=_folder, help="the run's folder (default: runs/NAME)")


def _corpus(commands: Commands) -> None:
    corpus = commands.add_parser(
        "corpus",
        help="write the synthetic corpora; check a real one",
        epilog="example: pkdot corpus check biovid corpora/biovid",
    )
    verbs = corpus.add_subparsers(required=True, metavar="VERB")
    for name, what, run, kinds in (
        ("synthesize", "write the synthetic corpus in a real corpus's own format", _synthesize, SYNTHETIC_KINDS),
        ("check", "read a corpus and report what is wrong with it", _check, CHECKED_KINDS),
    ):
        verb = _command(verbs, name, what, f"pkdot corpus {name} biovid corpora/biovid", run)
        verb.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
        verb.add_argument("folder", metavar="DIR", type=_folder)


def _demo(arguments: argparse.Namespace) -> object:
    require_usable(arguments.out)
    from training.demo import run_demo, shortened

    def show(answer: dict[str, Any]) -> None:
        if not arguments.json:
            print(shortened(answer), flush=True)

    answers = run_demo(arguments.out, arguments.port, show)
    return answers if arguments.json else None


def _synthesize(arguments: argparse.Namespace) -> object:
    from training.corpora.synthesize import SYNTHESIZE

    SYNTHESIZE[arguments.kind](arguments.folder)
    return {"written": str(arguments.folder)}


def _check(arguments: argparse.Namespace) -> object:
    from training.corpora.affwild2 import check_affwild2
    from training.corpora.bids import check_bids
    from training.corpora.biovid import check_biovid
    from training.corpora.features import check_features

    checks = {
        "biovid": check_biovid, "affwild2": check_affwild2, "features": check_features, "bids": check_bids,
    }  # fmt: skip
    findings = checks[arguments.kind](arguments.folder)
    problems = sum(finding.startswith("problem: ") for finding in findings)
    print(json.dumps({"findings": findings, "problems": problems}) if arguments.json else "\n".join(findings))
    if problems:
        raise CorpusError(f"{problems} of these findings are problems")
    return None


def _train(arguments: argparse.Namespace) -> object:
    config = load_config(arguments.config, arguments.overrides)
    folder = arguments.out or Path("runs") / config.name
    require_usable(folder)
    from training.loop.distributed import joined_ranks
    from training.run import train
    from training.run_folder import RunFolder

    with joined_ranks():
        bundle = train(config, folder, resume=arguments.resume)
    if bundle is None:
        return None  # the first rank says it
    found = RunFolder(folder).metrics()
    return {
        "bundle": str(bundle.path), "version": bundle.version, "protocol": found["protocol"], "test": found["test"],
    }  # fmt: skip


def _evaluate(arguments: argparse.Namespace) -> object:
    setting, folder = _open_run(arguments.run_folder)
    from training.run import INTERVALS, evaluate_run

    scores = evaluate_run(setting, folder)
    intervals = folder.metrics()[INTERVALS]
    scored = {who: {**own, "intervals": intervals[who]} for who, own in scores.items()}
    return {"protocol": setting.protocol, **scored}


def _export(arguments: argparse.Namespace) -> object:
    require_replaceable(arguments.to, marker=MANIFEST, what="a bundle")
    setting, folder = _open_run(arguments.run_folder)
    from training.run import export_run

    bundle = export_run(setting, folder, to=arguments.to)
    return {"bundle": str(bundle.path), "version": bundle.version}


def _open_run(path: Path) -> tuple[Any, Any]:
    from training.run_folder import RunFolder
    from training.stages.prepare import prepare_setting

    folder = RunFolder(path)
    setting = prepare_setting(folder.config(), folder.scratch)
    folder.check_corpus(setting.contents)
    return setting, folder


def _compare(arguments: argparse.Namespace) -> object:
    configs = [load_config(file, arguments.overrides) for file in arguments.configs]
    names = [config.name for config in configs]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two recipes are named {doubled[0]}; give one of them another `name`")
    for name in names:
        require_usable(arguments.out / name)
    from training.compare.report import compare_all

    methods = list(dict.fromkeys(row for name in arguments.methods for row in GROUPS.get(name, (name,))))
    report = compare_all(
        configs, arguments.out, range(arguments.seeds), methods, folds=arguments.folds, jobs=arguments.jobs
    )
    if report.failures:
        print(json.dumps(report.data, indent=1, sort_keys=True) if arguments.json else report.text)
        raise TrainingError("\npkdot: ".join(report.failures))
    return report.data if arguments.json else report.text
