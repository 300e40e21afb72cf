"""`python -m service serve …`: the commands of this half alone."""

import argparse
import sys

from service.starting import mind_signals


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        mind_signals()
    from service.cli import add_commands  # after that, since it takes a while

    parser = argparse.ArgumentParser(prog="python -m service")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
