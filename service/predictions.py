"""Which addresses are asked for predictions."""

from collections.abc import Mapping
from typing import Final

from models.spec import Task
from service.oip.address import infer_address

PREDICT: Final[Mapping[str, Task]] = {"/predict/pain": "pain", "/predict/valence-arousal": "valence-arousal"}


def is_prediction(path: str) -> bool:
    """Whether a prediction is asked for, of a bundle that is loaded or not.

    >>> is_prediction("/v2/models/pain/infer"), is_prediction("/v2/models/pain")
    (True, False)
    """
    return path in PREDICT or infer_address(path) is not None
