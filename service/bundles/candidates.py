"""Bundles that are tried beside the loaded one of their name: canaries answer some requests, shadows answer nobody."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.manifest import Manifest


class Candidates(BaseModel):
    """Where they lie, and how much they are tried; written `FOLDER@SHARE`, as in `/bundles-next@0.1`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """One bundle, or a folder of bundles; an empty folder holds no candidate."""
    share: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="before")
    @classmethod
    def split_at_the_last_sign(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        folder, _, share = value.rpartition("@")
        if not folder:
            raise ValueError("expected FOLDER@SHARE, for example /bundles-next@0.1")
        return {"folder": folder, "share": share}


def falls_to(share: float, request_id: str) -> bool:
    """Whether a request is among this share of all. The same id always gets the same answer, on every replica."""
    digest = hashlib.sha256(request_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def misfit(candidate: Manifest, beside: Manifest) -> str | None:
    """Why a candidate cannot stand beside this bundle; None where callers could tell them apart by values only."""
    for what in ("task", "levels", "values", "inputs"):
        if getattr(candidate, what) != getattr(beside, what):
            return f"its {what} must equal the loaded bundle {beside.name}'s; export it under another name"
    if (candidate.face is None) != (beside.face is None):
        return f"of it and the loaded bundle {beside.name} only one carries face nets; export it under another name"
    sets, others = ({frozenset(graph.available) for graph in one.graphs} for one in (candidate, beside))
    if sets != others:
        return f"its graphs take other modalities than those of the loaded bundle {beside.name}"
    return None
