"""The console command `pkdot`. Each half is imported only when one of its commands is asked for."""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

TRAINING = ("demo", "corpus", "train", "evaluate", "export", "compare")
SERVING = ("serve", "bundle", "keys")


def main() -> None:
    """Run the command that the arguments name; exits 0 done, 1 failed while running, 2 used wrongly.

    Exits 130 after Ctrl-C, and 141 where nobody reads on, as a shell has it of a program that SIGINT or SIGPIPE ended.
    """
    _open_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("pkdot: stopped", file=sys.stderr)
        code = 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be printed goes nowhere
        code = 141 if isinstance(error, BrokenPipeError) else 1
        if code == 1:  # a full disk, say
            print(f"pkdot: {error}", file=sys.stderr)
    sys.exit(code)


def _open_streams() -> None:
    """Open those of the three that the program was started without: else the next file or socket got its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it stays open


def _run() -> int:
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    if asked == "serve":
        import_module("service.starting").mind_signals()  # before all that takes a while to import
    parser = argparse.ArgumentParser(
        prog="pkdot",
        description="Pain, valence and arousal from the modalities that are really there.",
        epilog="example: pkdot serve --bundles runs/demo/bundles",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for half, names in (("training.cli", TRAINING), ("service.cli", SERVING)):
        if asked in names or asked not in (*TRAINING, *SERVING):
            _mount(half, names, commands, asked)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


def _mount(
    half: str,
    names: tuple[str, ...],
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    asked: str | None,
) -> None:
    """Add a half's commands; where what it imports is missing, say what to install."""
    try:
        module = import_module(half)
    except ModuleNotFoundError as missing:
        extra = "train" if half.startswith("training") else "serve"
        need = f"needs {missing.name}: run pip install '.[{extra}]'"
        if asked in names:
            print(f"pkdot {asked} {need}", file=sys.stderr)
            sys.exit(2)
        for name in names:
            commands.add_parser(name, help=f"({need})")
        return
    module.add_commands(commands)


if __name__ == "__main__":
    main()
