"""What is written whole or not at all: a file, and a folder, which never takes the place of something else."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderInUseError(ValueError):
    """The folder to write holds something that must not be lost."""


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file beside `file`, to be written, that takes its place when all went well."""
    part = file.with_name(f"{file.name}.part")
    yield part
    part.replace(file)


@contextmanager
def replacing(folder: Path, *, marker: str, what: str) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when all went well, and vanishes otherwise.

    An earlier `what` is replaced: a file named `marker` tells it. FolderInUseError where anything else is there.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder / marker).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUseError(f"{folder} holds something else than {what}: give a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
