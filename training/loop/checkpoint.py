"""Files of weights: written beside their place and renamed, so that a kill leaves the old one or the new one whole."""

from pathlib import Path
from typing import Any

import torch

from training.config import ConfigError
from training.files.replacing import whole_file


def save_weights(file: Path, weights: Any) -> None:
    """Write what `load_weights` reads."""
    with whole_file(file) as part:
        torch.save(weights, part)


def load_weights(file: Path, *, weights_only: bool = True) -> Any:
    """What `save_weights` wrote, on the CPU; ConfigError, which names the file, where it is damaged."""
    try:
        return torch.load(file, map_location="cpu", weights_only=weights_only)
    except OSError:
        raise
    except Exception:  # damaged bytes make an unpickler raise anything
        raise ConfigError(f"{file} is damaged; remove it and go on with --resume") from None
