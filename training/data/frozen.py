"""Frozen encoders see a corpus once: what they make of it is kept on disk, for all folds, seeds and rows.

It is what makes leaving one person out affordable. Only encoders that have not seen the corpus may be used so, since
the same features serve every fold: weights that came from elsewhere, never ones that were trained here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.nets.encoders import build_encoder
from training.config import RunConfig
from training.data.joined import kept_array
from training.data.window_set import WindowSet

BATCH = 16


@runtime_checkable
class Sees(Protocol):
    """An encoder whose frozen part can be run apart."""

    preparation: str
    """What it does to windows first, where its own buffers do not say it: the size that pictures are brought to, or the
    settings of a feature extractor."""

    def see(self, frames: Tensor, /) -> Tensor:
        """Windows (B, ...) to the frozen part's features (B, ..., W), which the encoder takes in place of windows."""


def seen_once(windows: WindowSet, config: RunConfig, key: str, folder: Path, device: torch.device) -> WindowSet:
    """The same windows, all of a corpus known by `key`, with features in place of what frozen encoders take."""
    store = dict(windows.store)
    for modality in config.modalities:
        spec = config.network.encoder(modality)
        if not spec.frozen:
            continue
        encoder = build_encoder(modality, config.inputs, spec, dim=config.network.dim, steps=config.network.steps)
        if isinstance(encoder, Sees):
            parts = [key, modality, spec.model_dump_json(), config.inputs.model_dump_json(), _encoder_key(encoder)]
            name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
            store[modality] = _features(encoder.to(device).eval(), store[modality], folder / f"{name}.npy", device)
    return replace(windows, store=store)


def originals(before: WindowSet, after: WindowSet) -> Mapping[str, Tensor]:
    """What the frozen encoders were shown, by modality: a bundle's graph is tried on it."""
    return {name: values for name, values in before.store.items() if after.store[name] is not values}


def _encoder_key(encoder: torch.nn.Module) -> str:
    """A digest of the frozen weights, and of what is done to windows first: files may change under one name."""
    assert isinstance(encoder, Sees)
    digest = hashlib.sha256(f"{encoder.preparation}\n".encode())
    weights = {name: values for name, values in encoder.state_dict().items() if name.startswith("backbone.")}
    for name, values in (weights | dict(encoder.named_buffers(recurse=False))).items():
        digest.update(name.encode() + values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _features(encoder: torch.nn.Module, shown: Tensor, file: Path, device: torch.device) -> Tensor:
    return kept_array(file, lambda part: _write(encoder, shown, part, device))


@torch.no_grad()
def _write(encoder: torch.nn.Module, shown: Tensor, part: Path, device: torch.device) -> None:
    assert isinstance(encoder, Sees)
    out = None
    for start in tqdm(range(0, len(shown), BATCH), desc="frozen encoder", unit="batch", leave=False):
        features = encoder.see(shown[start : start + BATCH].to(device)).float().cpu().numpy()
        if out is None:
            shape = (len(shown), *features.shape[1:])
            out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        out[start : start + len(features)] = features
    assert out is not None  # a corpus has windows
    out.flush()
