"""What is written whole or not at all: a file, and a folder, which never takes the place of something else."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderInUseError(ValueError):
    """The folder to write holds something that must not be lost."""


class FolderUnusableError(ValueError):
    """There can be no folder of this name, or nothing can be written into it."""


def require_usable(folder: Path) -> None:
    """Raise FolderUnusableError where `folder` is not there and cannot be made, or is there and cannot be written."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    which = "it" if there == folder else there
    if not there.is_dir():
        raise FolderUnusableError(f"{folder} cannot be written: {which} is not a folder; give another folder")
    try:
        with tempfile.TemporaryDirectory(prefix=".pkdot.", dir=there):
            pass  # permissions alone do not tell what may be written: a disk may be read-only, or /proc
    except OSError as error:
        raise FolderUnusableError(
            f"{folder} cannot be written: nothing can be made in {there} ({error.strerror}); give another folder"
        ) from None


def require_replaceable(folder: Path, *, marker: str, what: str) -> None:
    """Raise FolderInUseError where `replacing` would take the place of something else, FolderUnusableError where it
    could not write."""
    folder = folder.resolve()
    if folder.exists() and not (folder / marker).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUseError(f"{folder} holds something else than {what}: give a new or an empty folder")
    require_usable(folder.parent)


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file beside `file`, to be written, that takes its place when all went well, and vanishes otherwise.

    Its name is this process's own: another that writes the same file neither takes it nor writes into it.
    """
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path, *, marker: str, what: str) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when all went well, and vanishes otherwise.

    An earlier `what` is replaced: a file named `marker` tells it. Raises as `require_replaceable` does.
    """
    require_replaceable(folder, marker=marker, what=what)
    folder = folder.resolve()
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
