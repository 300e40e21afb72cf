"""What stage 3 is made from."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.nets.teacher import Teacher
from training.stages.sources import Source

Encoders = Mapping[str, Mapping[str, Any]]
"""Weights by modality."""


class Material(NamedTuple):
    """What earlier stages made."""

    encoders: Encoders
    """Of stage 0."""
    tnets: Mapping[str, Any]
    """Of stage 2; empty where the row does without."""
    teacher: Teacher
    """The joint teacher: gives the T-Net its targets."""
    source: Source
    """Gives the terms theirs."""
