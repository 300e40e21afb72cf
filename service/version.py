"""The version of pkdot that runs: of the installed distribution, else of the checkout."""

import tomllib
from importlib import metadata
from pathlib import Path


def read_version() -> str:
    try:
        return metadata.version("pkdot")
    except metadata.PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])


VERSION = read_version()
