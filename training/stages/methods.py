"""The rows of the table: what each student is given. All else is equal: data, split, starts, steps, selection rule."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

TeacherName = Literal["joint", "prevalent", "privileged", "untrained", "shuffled"]


class Method(NamedTuple):
    """One row."""

    hallucinates: bool = True
    """Whether there is a T-Net branch."""
    trained_tnet: bool = True
    """Whether stage 2 trains it, and stage 3 keeps its loss; else the task loss alone does."""
    terms: tuple[str, ...] = ()
    """Names in `training.stages.terms.TERMS`."""
    balanced: bool = True
    """Weights by the gradient's size, one rule for every term; else the paper's `ot_weight`."""
    teacher: TeacherName = "joint"
    """Which teacher the terms see. The T-Net's targets always come from the joint one."""


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "prevalent only": Method(hallucinates=False, trained_tnet=False),
        "student without privileged": Method(trained_tnet=False),
        "hallucination only": Method(),
        "KD": Method(terms=("KD",)),
        "features": Method(terms=("features",)),
        "cosine": Method(terms=("cosine",)),
        "SP": Method(terms=("SP",)),
        "RKD distance": Method(terms=("RKD distance",)),
        "RKD angle": Method(terms=("RKD angle",)),
        "PKT": Method(terms=("PKT",)),
        "CC": Method(terms=("CC",)),
        "similarity": Method(terms=("similarity",)),
        "OT of features": Method(terms=("OT of features",)),
        "PKDOT": Method(terms=("OT",), balanced=False),
        "PKDOT balanced": Method(terms=("OT",)),
        "KD + PKDOT": Method(terms=("KD", "OT")),
        "PKDOT from labels": Method(terms=("OT to labels",)),
        "PKDOT from prevalent": Method(terms=("OT",), teacher="prevalent"),
        "PKDOT from privileged": Method(terms=("OT",), teacher="privileged"),
        "PKDOT from untrained": Method(terms=("OT",), teacher="untrained"),
        "PKDOT from shuffled": Method(terms=("OT",), teacher="shuffled"),
    }
)
"""In the table's order: lower bounds A and B, hallucination, baselines, PKDOT, and controls."""

BASIC = ("student without privileged", "hallucination only", "PKDOT")
"""The rows of `pkdot compare` where none are named."""
