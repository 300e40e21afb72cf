"""The protocol's names of what tensors are made of."""

from typing import Final, NamedTuple

import numpy as np


class Datatype(NamedTuple):
    """A type on the wire: little-endian, row by row."""

    name: str
    dtype: np.dtype[np.generic]


UINT8: Final = Datatype("UINT8", np.dtype(np.uint8))
FP32: Final = Datatype("FP32", np.dtype("<f4"))
BOOL: Final = Datatype("BOOL", np.dtype(np.bool_))

OF_INPUTS: Final = {"uint8": UINT8, "float32": FP32}
"""By the name that an `InputSpec` uses."""
