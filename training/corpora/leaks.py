"""The same recording under two names: how one person gets into two parts of a corpus unseen."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from training.corpora.clip import relative


def identical_files(paths: Iterable[Path], root: Path) -> list[str]:
    """A sentence for each set of files with the same SHA-256; only files of the same size are read."""
    by_size: dict[int, list[Path]] = {}
    for path in sorted(set(paths)):
        by_size.setdefault(path.stat().st_size, []).append(path)
    by_content: dict[str, list[Path]] = {}
    for files in by_size.values():
        for path in files if len(files) > 1 else ():
            with path.open("rb") as stream:
                by_content.setdefault(hashlib.file_digest(stream, "sha256").hexdigest(), []).append(path)
    return [
        f"{relative(first, root)} and {relative(second, root)}{f' and {len(others)} more' if others else ''} are the "
        "same file: expected a recording of its own for each clip."
        for first, second, *others in (files for files in by_content.values() if len(files) > 1)
    ]
