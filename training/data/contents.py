"""What a corpus holds, as digests, so that results are never mixed with those of another corpus in the same place."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.config import ConfigError
from training.corpora.clip import Corpus
from training.data.windows import CorpusWindows, to_deal

Contents = Mapping[str, str]
"""What is digested, in words, to its digest (32 hex digits)."""

ROWS_AT_ONCE = 1024


def contents_of(corpus: Corpus, prepared: CorpusWindows) -> dict[str, str]:
    """Digests of all that training and scores depend on, the same in every process and wherever the corpus lies.

    Tensors that the window cache has prepared are told by its keys, which are of the recordings' bytes and of how they
    were prepared: nothing is read again. Features have no such key, and their values are digested. Left out is what
    only reports show: groups of people, licence, notes.
    """
    windows, clips = prepared.windows, corpus.clips
    _, unlabelled = to_deal(corpus, windows)  # they are dealt otherwise than the rest, whatever their own split
    frames = [b"" if labels is None else _bytes(labels.values) for labels in prepared.frames]
    found = {
        "classes or values": _digest([_json([corpus.task, corpus.levels, corpus.values])]),
        "labels": _digest([_json([clip.level for clip in clips]), _bytes(windows.targets.numpy()), *frames]),
        "people": _digest([_json([clip.subject for clip in clips])]),
        "recordings": _digest([_json([clip.id for clip in clips]), _bytes(windows.clip.numpy())]),
        "splits": _digest([_json([clip.split if clip.subject not in unlabelled else "none" for clip in clips])]),
        "times": _digest([_bytes(windows.spans_s.numpy())]),
    }
    if prepared.key:
        return found | {"media as prepared": _digest([prepared.key.encode()])}
    features = {f"features of {name}": _digest(_rows(values, windows.rows)) for name, values in windows.store.items()}
    return found | features


def require_same(held: Contents | None, now: Contents, folder: Path) -> None:
    """Raise ConfigError where what `folder` was made from is known, `held`, and differs from what is there `now`."""
    if held is None:
        return
    if changed := sorted(name for name in {*held, *now} if held.get(name) != now.get(name)):
        raise ConfigError(
            f"{folder} was made from other data: the corpus has changed since ({', '.join(changed)}); "
            "give another --out, or remove the folder, and train again"
        )


def _digest(parts: Iterable[bytes]) -> str:
    """Of parts in this order, each told from the next by its length."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _json(values: Sequence[object]) -> bytes:
    return json.dumps(values).encode()


def _bytes(values: NDArray[np.generic]) -> bytes:
    return f"{values.dtype.str} {values.shape} ".encode() + np.ascontiguousarray(values).tobytes()


def _rows(values: Tensor, rows: Tensor) -> Iterable[bytes]:
    """`values` (M, ...) at `rows` (N,), a piece at a time: a corpus may be as large as memory."""
    return (_bytes(values[rows[at : at + ROWS_AT_ONCE]].numpy()) for at in range(0, len(rows), ROWS_AT_ONCE))
