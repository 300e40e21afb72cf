"""A corpus of features: rows that somebody has computed already, of any task and with any modalities.

npz and Parquet are both read into one set of arrays, the npz layout of docs/corpora.md, and judged here. Axes: N rows,
F features, L steps, C channels or values, T samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.spec import InputSpec, Task
from training.corpora.clip import CorpusError
from training.corpora.feature_rows import (
    label_problems,
    modality_problems,
    name_problems,
    person_problems,
    texts,
)

Arrays = Mapping[str, NDArray[np.generic]]

METADATA: Final = ("task", "classes", "values", "name", "licence", "synthetic")
GROUP_PREFIX: Final = "group_"
ROW_KEYS: Final = ("label", "group", "split", "clip", "time_s")
ORDERED_CLASSES: Final = ("pain", "classification")
AFFECT: Final = ("valence", "arousal")
MEAN: Final = "mean"
"""What scores over all values are called."""


@dataclass(frozen=True, eq=False)
class FeatureCorpus:
    """N rows, each with its modalities, its label, and whose it is."""

    name: str
    task: Task
    classes: tuple[str, ...]
    """pain: levels in rising order; classification: the classes' names; empty for the others."""
    values: tuple[str, ...]
    """valence-arousal: those two; regression: the values' names; empty for the others."""
    licence: str
    """A sentence for the card of what is trained on it."""
    synthetic: bool
    modalities: Mapping[str, NDArray[np.float32]]
    """(N, F) vectors; (N, L, F) sequences or (N, C, T) signals, which a recipe's inputs tell apart. NaN is a missing
    value, and a row of nothing but NaN was not observed."""
    labels: NDArray[np.int64] | NDArray[np.float32]
    """Classes: int64 (N,), -1 where there is none; values: float32 (N, C), NaN where there is none."""
    group: tuple[str, ...]
    """The person of each row."""
    clip: tuple[str, ...]
    """The recording that each row belongs to."""
    split: tuple[Literal["train", "test"] | None, ...]
    """The corpus's own split of each row; None where it has none."""
    groups: tuple[Mapping[str, str], ...]
    """For scores by group, e.g. `{"sex": "female"}`, by row; empty where the corpus does not say."""
    time_s: NDArray[np.float64]
    """(N, 2): start and end of each row in its clip; where the file does not say, its number in the clip."""
    notes: tuple[str, ...] = ()
    """What a reader left out, in sentences."""

    def __len__(self) -> int:
        return len(self.group)

    def observed(self, modality: str) -> NDArray[np.bool_]:
        """(N,): where the modality holds any value at all."""
        values = self.modalities[modality]
        return np.asarray(np.isfinite(values).reshape(len(values), -1).any(axis=1))


def find_problems(arrays: Arrays, file: str) -> list[str]:
    """All that is wrong with `arrays`, a sentence each that names `file`, the key and what was expected."""
    for key, what in (
        ("task", f"a text, one of {', '.join(get_args(Task))}"),
        ("label", "one label a row"),
        ("group", "the person of each row"),
    ):
        if key not in arrays:
            return [f"{file} has no {key}: expected {what}."]
    if (label := arrays["label"]).ndim == 0 or len(label) == 0:
        return [f"{file} has no rows: expected label to hold one value for each, got the shape {label.shape}."]
    return [f"{file}: {problem}" for problem in _problems(arrays, len(label))]


def _problems(arrays: Arrays, n: int) -> Iterator[str]:
    task = _text(arrays["task"])
    if task not in get_args(Task):
        yield f"task is {task!r}: expected one of {', '.join(get_args(Task))}."
    else:
        names = names_of(arrays, task)
        if names is None:
            least = "at least two names" if task in ORDERED_CLASSES else "names"
            expected = ", ".join(AFFECT) if task == "valence-arousal" else f"{least}, each once"
            yield f"{task} needs {key_of_names(task)}: expected {expected}, in order."
        else:
            yield from name_problems(key_of_names(task), names)
            yield from label_problems(arrays["label"], task, names)
            if task == "regression" and len(names) > 1 and MEAN in names:
                yield f"values has {MEAN}: expected another name, since ccc_{MEAN} is the mean over all values."
    for key in ("name", "licence"):
        if key in arrays and not _text(arrays[key]):
            yield f"{key} is {arrays[key].dtype} {arrays[key].shape}: expected one text."
    if "synthetic" in arrays and (arrays["synthetic"].dtype.kind != "b" or arrays["synthetic"].size != 1):
        yield f"synthetic is {arrays['synthetic'].dtype} {arrays['synthetic'].shape}: expected true or false."
    yield from person_problems({key: arrays[key] for key in arrays if key in ROW_KEYS or is_group(key)}, n)
    others = {key: arrays[key] for key in arrays if is_modality(key)}
    for key in (key for key, array in others.items() if array.ndim == 0):
        yield f"{key} is a single value: expected rows of a modality, or one of {', '.join(METADATA)}."
    yield from modality_problems({key: array for key, array in others.items() if array.ndim}, n)


def names_of(arrays: Arrays, task: str) -> tuple[str, ...] | None:
    """The names of the task's classes or values; None where they are missing, too few, or one stands twice."""
    key = key_of_names(task)
    if task == "valence-arousal" and key not in arrays:
        return AFFECT
    names = texts(arrays[key].reshape(-1)) if key in arrays else None
    if not names or len(set(names)) != len(names) or (key == "classes" and len(names) < 2):
        return None
    return names if task != "valence-arousal" or names == AFFECT else None


def key_of_names(task: str) -> str:
    """Where the names of the task's labels are."""
    return "classes" if task in ORDERED_CLASSES else "values"


def is_group(key: str) -> bool:
    """Whether an array of this name says a group of people: sex, age band."""
    return key.startswith(GROUP_PREFIX)


def is_modality(key: str) -> bool:
    """Whether an array of this name is taken for a modality."""
    return key not in METADATA and key not in ROW_KEYS and not is_group(key)


def from_arrays(arrays: Arrays, file: str, stem: str, *, synthetic: bool) -> FeatureCorpus:
    """The arrays as a corpus, called `stem` if they hold no name. Raises CorpusError with the first problem."""
    if problems := find_problems(arrays, file):
        raise CorpusError(problems[0])
    n, task = len(arrays["label"]), _task(arrays)
    names = names_of(arrays, task)
    assert names is not None  # find_problems saw to it
    classes = task in ORDERED_CLASSES
    group = _row_texts(arrays, "group")
    clip = _row_texts(arrays, "clip") if "clip" in arrays else tuple(f"row{i}" for i in range(n))
    return FeatureCorpus(
        name=_text(arrays["name"]) if "name" in arrays else stem,
        task=task,
        classes=names if classes else (),
        values=() if classes else names,
        licence=_text(arrays["licence"]) if "licence" in arrays else f"{file} states no licence.",
        synthetic=synthetic or ("synthetic" in arrays and bool(arrays["synthetic"].any())),
        modalities={
            key: np.ascontiguousarray(values, dtype=np.float32) for key, values in arrays.items() if is_modality(key)
        },
        labels=arrays["label"].astype(np.int64)
        if classes
        else arrays["label"].astype(np.float32).reshape(n, len(names)),
        group=group,
        clip=clip,
        split=_splits(_row_texts(arrays, "split")) if "split" in arrays else (None,) * n,
        groups=_groups(arrays, n),
        time_s=arrays["time_s"].astype(np.float64) if "time_s" in arrays else times_by_number(clip),
    )


def to_arrays(corpus: FeatureCorpus) -> dict[str, NDArray[np.generic]]:
    """The npz layout of a corpus."""
    kinds = sorted({kind for own in corpus.groups for kind in own})
    arrays: dict[str, NDArray[np.generic]] = {
        "task": np.array(corpus.task),
        "name": np.array(corpus.name),
        "licence": np.array(corpus.licence),
        "synthetic": np.array(corpus.synthetic),
        "label": corpus.labels,
        "group": np.array(corpus.group),
        "clip": np.array(corpus.clip),
        "time_s": corpus.time_s,
    }
    if corpus.classes:
        arrays["classes"] = np.array(corpus.classes)
    if corpus.values:
        arrays["values"] = np.array(corpus.values)
    if any(corpus.split):
        arrays["split"] = np.array([part or "train" for part in corpus.split])
    for kind in kinds:
        arrays[f"{GROUP_PREFIX}{kind}"] = np.array([own.get(kind, "unknown") for own in corpus.groups])
    return arrays | dict(corpus.modalities)


def require_inputs(corpus: FeatureCorpus, inputs: InputSpec, modalities: Sequence[str]) -> None:
    """Raise CorpusError where the corpus lacks one of `modalities`, or has it in another shape than `inputs` says."""
    for modality in modalities:
        if modality not in corpus.modalities:
            raise CorpusError(f"{corpus.name} has no modality {modality}: it has {', '.join(corpus.modalities)}.")
        has, wanted = corpus.modalities[modality].shape[1:], inputs.shape(modality)
        if has != wanted:
            key = f"inputs.{'features' if modality in inputs.features else 'signals'}.{modality}"
            raise CorpusError(
                f"{corpus.name}: a row of {modality} is {_shape(has)}, but {key} says {_shape(wanted)}: expected "
                f"{'its shape' if modality in inputs.features else 'channels × (rate_hz · window_s) samples'}."
            )


def times_by_number(clip: Sequence[str]) -> NDArray[np.float64]:
    """(N, 2): the first row of each clip from 0 to 1, its second from 1 to 2, and so on."""
    seen: dict[str, int] = {}
    start = np.empty(len(clip))
    for i, name in enumerate(clip):
        start[i] = seen[name] = seen.get(name, -1) + 1
    return np.stack([start, start + 1], axis=1)


def _splits(names: Sequence[str]) -> tuple[Literal["train", "test"] | None, ...]:
    # people who choose an epoch are dealt from the training people, by the run's own rule
    return tuple("test" if name == "test" else "train" for name in names)


def _groups(arrays: Arrays, n: int) -> tuple[Mapping[str, str], ...]:
    kinds = {key.removeprefix(GROUP_PREFIX): _row_texts(arrays, key) for key in sorted(arrays) if is_group(key)}
    return tuple({kind: values[i] for kind, values in kinds.items()} for i in range(n))


def _task(arrays: Arrays) -> Task:
    named = _text(arrays["task"])
    return next(task for task in get_args(Task) if task == named)


def _row_texts(arrays: Arrays, key: str) -> tuple[str, ...]:
    found = texts(arrays[key])
    assert found is not None  # find_problems saw to it
    return found


def _text(array: NDArray[np.generic]) -> str:
    return str(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind == "U" else ""


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
