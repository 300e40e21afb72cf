"""The command `pkdot keys`."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.access.keys import KeysError, new_key, read_keys

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_keys(commands: "Commands") -> None:
    """Add `keys new`; it sets `run`, which takes the parsed arguments and returns the exit code."""
    example = "example: pkdot keys new ward-7 --limit 4 --file keys.txt"
    keys = commands.add_parser("keys", help="make API keys", epilog=example)
    actions = keys.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser(
        "new",
        help="make a key: it is printed once, and its hash is added to the file",
        description="Make an API key. It is printed once and kept nowhere; the file gets its name and salted hash. "
        "A running service takes it in at a reload (SIGHUP). To end a key, delete its line and reload.",
        epilog=example,
    )
    new.add_argument("name", metavar="NAME", help="whose it is; it is written to the log with each of its requests")
    new.add_argument("--limit", type=int, metavar="N", help="most requests of this key at once; no limit if left out")
    new.add_argument("--file", type=Path, metavar="FILE", help="file of keys; PKDOT_API_KEYS_FILE if left out")
    new.add_argument("--json", action="store_true", help="print one JSON object for machines")
    new.set_defaults(run=make_key)


def make_key(arguments: argparse.Namespace) -> int:
    """`pkdot keys new`: 0 when the key works from the next reload on, 1 for a file that cannot take it, 2 misused."""
    file = arguments.file or Path(os.environ.get("PKDOT_API_KEYS_FILE", ""))
    if not file.name:
        return say("no file of keys is named; name one with --file, or with PKDOT_API_KEYS_FILE", code=2)
    try:
        token, key = new_key(arguments.name, arguments.limit)
    except KeysError as error:
        return say(str(error), code=2)
    try:
        add_line(file, key.name, key.line())
    except OSError as error:
        return say(f"{file} cannot be written: {error.strerror}", code=1)
    except ValueError as error:
        return say(f"{file}: {error}", code=1)
    print(json.dumps({"name": key.name, "key": token, "limit": key.limit}) if arguments.json else token)
    return say(f"this key of {key.name} is not shown again; reload the service (SIGHUP) to use it")


def add_line(file: Path, name: str, line: str) -> None:
    """Append a line to the file of keys, which is made for its owner alone. Raises OSError and KeysError."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as opened:
        text = opened.read()
        if any(key.name == name for key in read_keys(text)):
            raise KeysError(f"there is a key called {name} already; take another name, or delete its line")
        opened.write(line + "\n" if not text or text.endswith("\n") else f"\n{line}\n")


def say(message: str, *, code: int = 0) -> int:
    """A line on stderr; returns `code`."""
    print(f"pkdot: {message}", file=sys.stderr, flush=True)
    return code
