"""Weights files in torchvision's names, read without running any code that they may hold."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.nets.errors import WeightsFileError


def load_weights_file(net: nn.Module, file: Path, *, made_for: str) -> None:
    """Copy a `torch.save`d state dictionary into `net`; the classifier (`fc.*`) is left out. All of it, or nothing.

    `made_for` is the network that the file must be of, for the messages.
    """
    state = _read(file, made_for)
    given = {name: values for name, values in state.items() if not name.startswith("fc.")}
    # how many batches were seen is of no use here, and older files do not have it
    expected = {name: v for name, v in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, values in expected.items():
        if name not in given:
            raise WeightsFileError(f"{file}: no key {name!r}; expected the weights of {made_for}")
        if given[name].shape != values.shape:
            raise WeightsFileError(
                f"{file}: {name!r} has shape {tuple(given[name].shape)}; {made_for} has {tuple(values.shape)}"
            )
    unknown = [name for name in given if name not in expected and not name.endswith("num_batches_tracked")]
    if unknown:
        raise WeightsFileError(f"{file}: {made_for} has no key {unknown[0]!r}; expected its weights and nothing else")
    net.load_state_dict({name: given[name] for name in expected}, strict=False)


def _read(file: Path, made_for: str) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise WeightsFileError(f"{file} cannot be read; expected a file with the weights of {made_for}") from None
    except Exception:  # foreign bytes break an unpickler in many ways
        raise WeightsFileError(f"{file} is not a file of weights that torch saved; expected {made_for}'s") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsFileError(f"{file} is not a dictionary of tensors; expected the weights of {made_for}")
    return state
