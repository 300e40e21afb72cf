"""Where this user's face nets, synthetic corpora and prepared windows are kept."""

import os
from pathlib import Path


def cache_root() -> Path:
    """`PKDOT_CACHE_DIR`, else `pkdot` in $XDG_CACHE_HOME (if absolute, as its standard asks), else in ~/.cache."""
    if named := os.environ.get("PKDOT_CACHE_DIR"):
        return Path(named)
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "pkdot"
