"""A bundle's golden input: drawn people and numbers, since a bundle travels and what participants gave must not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.inputs.voice import voice_window
from models.spec import FACE, InputSpec
from training.corpora.affect_model import SyntheticAffect, affect_expression, draw_affect
from training.corpora.drawn_head import head_texture
from training.corpora.drawn_voice import speak
from training.corpora.synthetic import record

GOLDEN_WINDOWS = 4


def golden_windows(inputs: InputSpec, available: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Modality to (GOLDEN_WINDOWS, ...), the same on every machine up to rounding."""
    return {name: np.stack([_window(inputs, name, index) for index in range(GOLDEN_WINDOWS)]) for name in available}


def _window(inputs: InputSpec, modality: str, index: int) -> NDArray[np.generic]:
    if modality in inputs.features or modality in inputs.signals:
        return np.random.default_rng(index).normal(size=inputs.shape(modality)).astype(np.float32)
    settings, rng = SyntheticAffect(video_s=max(2.0, inputs.window_s)), np.random.default_rng(index)
    affect = draw_affect(settings, index)
    if modality == FACE:
        assert inputs.face is not None
        times_s = np.linspace(0, inputs.window_s, inputs.face.frames, dtype=np.float32)
        units = affect_expression(rng, settings, affect, times_s)
        texture = head_texture(affect.identity)
        return np.stack([*record(rng, affect.identity, texture, units, inputs.face.size_px, restlessness=1.0)])
    assert inputs.voice is not None
    return voice_window(speak(rng, affect), inputs.voice, inputs.window_s)
