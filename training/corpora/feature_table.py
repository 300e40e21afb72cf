"""A feature corpus as a Parquet table: read into the arrays of the npz layout, and written from them.

A modality is a column of lists, each of the same length (lists of lists for three axes), or a group of columns of
numbers, `<modality>.<feature>`. What an npz holds as arrays without rows is JSON under `pkdot` in the schema.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.corpora.clip import CorpusError

METADATA_KEY: Final = b"pkdot"
LABEL_PREFIX: Final = "label_"
LISTS: Final = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)

Array = NDArray[np.generic]


def read_table(file: Path) -> dict[str, Array]:
    """The npz layout of the table; CorpusError where the file is damaged, or a column cannot be an array."""
    try:
        table = pq.read_table(file)
        names = table.column_names
        metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{file.name} is cut short or no Parquet file: {error}".splitlines()[0]) from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file.name}: a column's name or the metadata is not UTF-8: expected UTF-8 text.") from error
    except ValueError as error:
        raise CorpusError(f"{file.name}: pkdot in the schema's metadata is not JSON: {error}.") from error
    if not isinstance(metadata, dict):
        raise CorpusError(f"{file.name}: pkdot in the schema's metadata is {metadata!r}: expected an object in JSON.")
    columns: dict[str, Array] = {}
    for name in names:
        if name in columns or names.count(name) > 1:
            raise CorpusError(f"{file.name} has two columns {name}: expected each name once.")
        columns[name] = _column(table.column(name), name, file.name)
    return _joined(columns, metadata, file.name)


def _joined(columns: dict[str, Array], metadata: dict[str, Any], file: str) -> dict[str, Array]:
    """Columns that belong together become one array."""
    if strange := [key for key, value in metadata.items() if not is_metadata(value)]:
        raise CorpusError(f"{file}: {strange[0]} in pkdot's metadata: expected a text, true or false, or texts.")
    arrays = {key: np.array(value) for key, value in metadata.items()}
    labels = [name for name in columns if name.startswith(LABEL_PREFIX)]
    names = [name.removeprefix(LABEL_PREFIX) for name in labels]
    if labels:
        order = metadata.get("values", names)
        if "label" in columns or sorted(map(str, order)) != sorted(names):
            raise CorpusError(
                f"{file} has the columns {', '.join(labels)}: expected label alone, or label_ and each of values."
            )
        arrays["values"] = np.array(order)
        arrays["label"] = np.stack([columns[f"{LABEL_PREFIX}{name}"] for name in order], axis=1)
    features: dict[str, dict[str, Array]] = {}
    for name, values in columns.items():
        modality, dot, _ = name.partition(".")
        if dot:
            features.setdefault(modality, {})[name] = values
        elif name not in labels:
            arrays[name] = values
    for modality, parts in features.items():
        if modality in arrays:
            raise CorpusError(f"{file} has a column {modality} and {modality}.<feature>: expected one of the two.")
        if wrong := [name for name, values in parts.items() if values.dtype.kind not in "biuf" or values.ndim != 1]:
            raise CorpusError(f"{file}: column {wrong[0]} holds {parts[wrong[0]].dtype}: expected a number a row.")
        arrays[modality] = np.stack(list(parts.values()), axis=1)
    return arrays


def is_metadata(value: object) -> bool:
    """Whether a value of the JSON is one that an npz would hold beside the rows."""
    return isinstance(value, str | bool) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _column(column: "pa.ChunkedArray", name: str, file: str) -> Array:
    """A column as an array with a row for each of its own: text, or numbers with NaN (label: -1) for null."""
    whole = column.combine_chunks()
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_string_view(whole.type):
        whole = whole.cast(pa.large_string())
    if pa.types.is_string(whole.type) or pa.types.is_large_string(whole.type):
        try:
            return np.array(pc.fill_null(whole, "").to_pylist(), dtype=np.str_)
        except UnicodeDecodeError:
            raise CorpusError(f"{file}: column {name} holds text that is not UTF-8: expected UTF-8.") from None
    try:
        if pa.types.is_integer(whole.type) and name == "label":
            whole = pc.fill_null(whole.cast(pa.int64()), -1)  # an unsigned type cannot hold it
        return _numbers(whole)
    except (ValueError, pa.ArrowException) as error:
        raise CorpusError(
            f"{file}: column {name} is {whole.type}: expected text, numbers, or lists of numbers of one length."
        ) from error


def _numbers(values: "pa.Array") -> Array:
    """Numbers, or nested lists of them, as one array; ValueError where lists differ in length."""
    if not any(is_list(values.type) for is_list in LISTS):
        if pa.types.is_boolean(values.type) and values.null_count:
            values = values.cast(pa.uint8())  # with nulls they would become objects
        if pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        numbers: Array = values.to_numpy(zero_copy_only=False)
        if numbers.dtype.kind not in "biuf":
            raise ValueError(f"{numbers.dtype} is no number")
        return numbers
    lengths = pc.unique(pc.list_value_length(values).drop_null())
    if len(lengths) > 1:
        raise ValueError("lists of several lengths")
    inner = _numbers(values.flatten())  # without the null lists
    valid = np.asarray(values.is_valid())
    size = lengths[0].as_py() if len(lengths) else 1
    rows = np.full((len(values), size, *inner.shape[1:]), np.nan, np.result_type(inner.dtype, np.float32))
    rows[valid] = inner.reshape(-1, size, *inner.shape[1:])
    return rows


def write_table(path: Path, arrays: dict[str, Array]) -> None:
    """Write the npz layout as a table: modalities as lists, several values as `label_<name>` columns."""
    n = len(arrays["label"])
    columns: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for key, values in arrays.items():
        if key == "label" and values.ndim == 2:
            columns |= {f"{LABEL_PREFIX}{name}": values[:, i] for i, name in enumerate(arrays["values"].tolist())}
        elif key in ("task", "classes", "values", "name", "licence", "synthetic"):
            metadata[key] = values.tolist()
        else:
            columns[key] = _lists(values) if values.ndim > 1 else values
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    assert len(table) == n
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()}), path)


def _lists(values: Array) -> "pa.Array":
    """(N, ..., F) as N lists of a fixed length, nested where there are more than two axes."""
    whole = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in values.shape[:0:-1]:
        whole = pa.FixedSizeListArray.from_arrays(whole, int(size))
    return whole
