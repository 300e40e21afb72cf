"""What may be wrong with the rows of a feature corpus, in sentences without the file's name."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]

SPLITS: Final = ("train", "val", "test")
MODALITY: Final = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
NUMBERS: Final = "biuf"
WHOLE_NUMBERS: Final = "iu"
NO_NAMES: Final = ("", "nan", "<NA>", "None")
"""What an empty cell of a table becomes as text: rows of anybody would come together under it."""


def texts(array: NDArray[np.generic]) -> tuple[str, ...] | None:
    """A 1-D array of text or whole numbers as text; None where it is of another type or shape."""
    if array.ndim != 1 or array.dtype.kind not in "U" + WHOLE_NUMBERS:
        return None
    return tuple(map(str, array.tolist()))


def name_problems(key: str, names: Sequence[str]) -> Iterator[str]:
    """Of the names of classes or values, which head the columns of tables."""
    if broken := [name for name in names if not name.strip() or not name.isprintable()]:
        yield f"{key} has {broken[0]!r}: expected a name in one line for each."
    for one, other in spelled_alike(names):
        yield f"{key} has {one!a} and {other!a}: expected names that look different."


def label_problems(label: NDArray[np.generic], task: str, names: Sequence[str]) -> Iterator[str]:
    """`names` are the classes, or the values."""
    if task in ("pain", "classification"):
        yield from _class_problems(label, len(names))
    else:
        yield from _value_problems(label, task, len(names))


def _class_problems(label: NDArray[np.generic], classes: int) -> Iterator[str]:
    expected = f"expected whole numbers from 0 to {classes - 1}, the place of a class in classes, or -1 for none"
    if label.ndim != 1 or label.dtype.kind not in WHOLE_NUMBERS:
        yield f"label is {label.dtype} {label.shape}: {expected}, one a row."
        return
    index = label.astype(np.int64)
    if (wrong := (index < -1) | (index >= classes)).any():
        row = int(wrong.argmax())
        yield f"label is {index[row]} in row {row}: {expected}."
    elif (index == -1).all():
        yield f"label is -1 in every row: {expected}, and at least one class."


def _value_problems(label: NDArray[np.generic], task: str, values: int) -> Iterator[str]:
    shape = (len(label), values)
    if label.dtype.kind not in "iuf" or label.shape not in (shape, (len(label),) if values == 1 else shape):
        yield f"label is {label.dtype} {label.shape}: expected numbers {shape}, NaN in a row without a label."
        return
    rows = label.astype(np.float64).reshape(shape)
    if (infinite := _infinite(rows)).any():
        yield f"label is infinite in row {int(infinite.argmax())}: expected a number in float32, or NaN."
    half = np.isnan(rows).any(axis=1) & ~np.isnan(rows).all(axis=1)
    if half.any():
        yield f"label is NaN in a part of row {int(half.argmax())}: expected NaN in all of its values or in none."
    if np.isnan(rows).all():
        yield "label is NaN in every row: expected at least one that is labelled."
    if task == "valence-arousal" and (wrong := np.abs(np.nan_to_num(rows)) > 1).any():
        yield f"label is beyond 1 in row {int(wrong.any(axis=1).argmax())}: expected values in [-1, 1]."


def person_problems(arrays: Arrays, n: int) -> Iterator[str]:
    """Of group, split, clip, time_s and group_*: their lengths, and whether each person is one person."""
    found: dict[str, tuple[str, ...]] = {}
    expected = f"expected text or whole numbers ({n},), one a row."
    for key, array in arrays.items():
        if key == "label":
            continue
        if key == "time_s":
            yield from _time_problems(array, n)
        elif (names := texts(array)) is None or len(names) != n:
            yield f"{key} is {array.dtype} {array.shape}: {expected}"
        elif (blank := blank_row(key, names)) is not None:
            where = f"{names[blank].strip() or 'empty'} in row {blank}"
            hint = " What is not known is called unknown." if key.startswith("group_") else ""
            yield f"{key} is {array.dtype} {array.shape}, {where}: {expected}{hint}"
        else:
            found[key] = names
    if unknown := sorted(set(found.get("split", ())) - set(SPLITS)):
        yield f"split is {unknown[0]!r} in row {found['split'].index(unknown[0])}: expected {', '.join(SPLITS)}."
    if "group" not in found:
        return
    for one, other in spelled_alike(found["group"]):
        yield f"group has {one!a} and {other!a}: expected one spelling of each person, spaces and accents included."
    for key, names in found.items():
        if key == "split" or key.startswith("group_"):
            what = "each person in one split" if key == "split" else "one value for each person"
            for person, both in more_than_one(found["group"], names):
                yield f"{key} of {person} is {both[0]} and {both[1]}: expected {what}."
        if key == "clip":
            for clip, both in more_than_one(names, found["group"]):
                yield f"clip {clip} is of {both[0]} and of {both[1]}: expected one person in a recording."


def blank_row(key: str, names: Sequence[str]) -> int | None:
    """The first row whose name is what is left of an empty cell; a group of people may be called None."""
    empty = NO_NAMES[:-1] if key.startswith("group_") else NO_NAMES
    return next((row for row, name in enumerate(names) if name.strip() in empty), None)


def spelled_alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of different names that nobody can tell apart by sight, sorted: one person would be dealt as two.

    They differ in spaces, or in how an accented letter is composed (Unicode Standard Annex 15).
    """
    by_look: dict[str, set[str]] = {}
    for name in set(names):
        by_look.setdefault(" ".join(unicodedata.normalize("NFC", name).split()), set()).add(name)
    return sorted((first, other) for first, *others in map(sorted, by_look.values()) for other in others)


def more_than_one(of: Sequence[str], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each of `of` that has several `names`, with them, sorted."""
    all_names: dict[str, set[str]] = {}
    for key, name in zip(of, names, strict=True):
        all_names.setdefault(key, set()).add(name)
    return [(key, sorted(own)) for key, own in sorted(all_names.items()) if len(own) > 1]


def _time_problems(array: NDArray[np.generic], n: int) -> Iterator[str]:
    if array.shape != (n, 2) or array.dtype.kind not in "iuf":
        yield f"time_s is {array.dtype} {array.shape}: expected numbers ({n}, 2), start and end of each row in seconds."
        return
    times = array.astype(np.float64)
    wrong = ~(np.isfinite(times).all(axis=1) & (times[:, 0] < times[:, 1]))
    if wrong.any():
        row = int(wrong.argmax())
        yield f"time_s is {times[row].tolist()} in row {row}: expected a start before an end, in seconds."


def modality_problems(arrays: Arrays, n: int) -> Iterator[str]:
    """Of everything that has rows and is not label or person: it must be a modality."""
    if not arrays:
        yield "there is no modality: expected at least one array (N, features), named as it is to be called."
    for key, array in arrays.items():
        if not MODALITY.match(key):
            yield f"{key} cannot be a modality's name: expected small letters, digits and _, beginning with a letter."
        elif len(array) != n:
            rows = len(array)
            yield f"{key} has {rows} rows and label has {n}: expected a row for each label, NaN where nothing was seen."
        elif array.dtype.kind not in NUMBERS or array.ndim not in (2, 3) or 0 in array.shape:
            yield f"{key} is {array.dtype} {array.shape}: expected numbers (N, features) or with three axes."
        elif array.dtype.kind == "f" and (infinite := _infinite(array)).any():
            yield f"{key} is infinite in row {int(infinite.argmax())}: expected numbers in float32, or NaN."


def _infinite(rows: NDArray[np.generic]) -> NDArray[np.bool_]:
    """(n,): which of (n, ...) rows hold a number that float32 cannot."""
    with np.errstate(over="ignore"):
        infinite = np.isinf(rows.astype(np.float32))
    return np.asarray(infinite.reshape(len(rows), -1).any(axis=1))
