"""Tensors on the wire: JSON or raw little-endian bytes, and arrays on this side."""

import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from service.errors import FieldError, InvalidField
from service.oip.calls import Call, Input, Output
from service.oip.datatypes import BOOL, FP32, UINT8
from service.uploads.upload import Spool

Array = NDArray[np.generic]
UINT8_MAX: Final = 255
NUMBERS: Final = {int, float, NoneType}
"""What JSON's numbers and `null` become."""
ANSWER: Final = TypeAdapter(dict[str, Any])
CHECK_BYTES: Final = 1 << 20
"""Values are checked in pieces of this size, so that the check of a large tensor takes no memory to speak of."""


class Windows(NamedTuple):
    """What a request sends."""

    arrays: dict[str, Array]
    """The inputs (batch, *window) by modality; those of the spool are views of it."""
    observed: NDArray[np.bool_]
    """(batch,): whether every modality has at least one value there."""


def input_windows(call: Call, spool: Spool) -> Windows:
    """Raises InvalidField for wrong values."""
    arrays, errors = {}, []
    for one in call.inputs:
        try:
            array = from_json(one) if one.binary is None else from_spool(one, spool)
            refuse_values(one, array)
            arrays[one.modality] = array
        except ValueError as error:
            errors.append(FieldError(one.modality, str(error)))
    if errors:
        raise InvalidField(errors)
    observed = np.ones(call.batch, np.bool_)
    for one in call.inputs:
        if one.missing_allowed:
            observed &= has_values(arrays[one.modality])
    return Windows(arrays, observed)


def from_spool(one: Input, spool: Spool) -> Array:
    """A view of the bytes: of the memory, or of the file's pages where the request outgrew its memory."""
    assert one.binary is not None
    dtype, start = one.datatype.dtype, one.binary.start
    if spool.file is not None:
        return np.memmap(spool.file, dtype, "r", start, one.shape)
    flat: Array = np.frombuffer(spool.unwritten, dtype, one.binary.size // dtype.itemsize, start)
    return np.require(flat, requirements="A").reshape(one.shape)  # behind a JSON of any length, floats may lie askew


def from_json(one: Input) -> Array:
    """The `data` of a request, flat or nested; `null` is a missing value. ValueError where it does not fit."""
    size = math.prod(one.shape)
    expected = f"`data` must hold {size} numbers, flat or nested by the shape"
    values = np.array(one.data, np.object_)  # as numbers, one text among them would make each as long as the text
    if values.shape not in (one.shape, (size,)) or not (kinds := set(map(type, values.flat))) <= NUMBERS:
        raise ValueError(expected)
    try:
        array = values.astype(np.float64)
    except OverflowError:
        raise ValueError(expected) from None
    if one.datatype is UINT8 and (kinds != {int} or array.min() < 0 or array.max() > UINT8_MAX):
        raise ValueError(f"`data` must hold whole numbers from 0 to {UINT8_MAX}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        return array.astype(one.datatype.dtype).reshape(one.shape)


def refuse_values(one: Input, array: Array) -> None:
    """ValueError for a value that no measurement gives; NaN passes where it stands for a missing one."""
    if one.datatype is not FP32:
        return
    rows = max(1, CHECK_BYTES * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        wrong = np.isinf(part) if one.missing_allowed else ~np.isfinite(part)
        if wrong.any():
            window = start + int(wrong.reshape(len(part), -1).any(axis=1).argmax())
            allowed = "finite, or NaN where one is missing" if one.missing_allowed else "finite"
            raise ValueError(f"values must be {allowed}; window {window} of the batch holds others")


def has_values(array: Array) -> NDArray[np.bool_]:
    """(batch,): which windows of (batch, ...) are not NaN throughout. In others than those only one value is read."""
    windows = array.reshape(len(array), -1)
    found = ~np.isnan(windows[:, 0])
    for window in np.flatnonzero(~found):
        found[window] = not np.isnan(windows[window]).all()
    return found


class Body(NamedTuple):
    """An answer's body; the length of its JSON where bytes follow it, else None."""

    content: bytes
    json_bytes: int | None


def answer_body(head: Mapping[str, Any], outputs: Sequence[Output], arrays: Sequence[Array]) -> Body:
    """`head` and the outputs, each in the form that was asked for."""
    listed, raw = [], []
    for output, array in zip(outputs, arrays, strict=True):
        datatype = BOOL if array.dtype == np.bool_ else FP32
        entry: dict[str, Any] = {"name": output.name, "datatype": datatype.name, "shape": array.shape}
        if output.binary:
            raw.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = array.ravel().tolist()  # row by row; `null` for what is not finite
        listed.append(entry)
    text = ANSWER.dump_json({**head, "outputs": listed})
    return Body(b"".join([text, *raw]), len(text) if raw else None)
