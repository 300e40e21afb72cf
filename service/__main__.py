"""`python -m service serve …`: the commands of this half alone."""

import argparse
import sys

from service.cli import add_commands


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m service")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
