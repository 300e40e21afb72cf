"""What the tests of networks share: inputs of each kind, and the exporter."""

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.spec import FaceSpec, FeatureSpec, InputSpec, LogMelSpec, SignalSpec

Compute = Callable[[Mapping[str, Tensor]], Tensor]
"""{modality: a batch of windows} to an answer for each window, (B, ...)."""


@pytest.fixture(scope="session")
def inputs() -> InputSpec:
    """One modality of each kind: frames, log-mel, a slow and a fast signal, a vector and a sequence of features."""
    return InputSpec(
        window_s=2.0,
        hop_s=1.0,
        face=FaceSpec(frames=5, size_px=48),
        voice=LogMelSpec(mels=20),
        signals={
            "eda": SignalSpec(channels=("gsr",), rate_hz=10),
            "ecg": SignalSpec(channels=("i", "ii"), rate_hz=64),
        },
        features={"text": FeatureSpec(shape=(6,)), "gaze": FeatureSpec(shape=(9, 4))},
    )


@pytest.fixture(scope="session")
def windows(inputs: InputSpec) -> Callable[[int], dict[str, Tensor]]:
    """n windows of every modality, the same at every call; some features are missing."""

    def draw(n: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        drawn = {m: torch.randn(n, *inputs.shape(m), generator=generator) for m in ("voice", "eda", "ecg")}
        drawn["face"] = torch.randint(0, 256, (n, *inputs.shape("face")), dtype=torch.uint8, generator=generator)
        for name in inputs.features:
            values = torch.randn(n, *inputs.shape(name), generator=generator)
            drawn[name] = values.where(torch.rand(values.shape, generator=generator) > 0.2, torch.nan)
        return drawn

    return draw


@pytest.fixture(scope="session")
def spread_over_batches() -> Callable[[Compute, Mapping[str, Tensor]], float]:
    """How far a window's answer moves between batches: all windows, the same ones backwards, and each alone."""

    def spread(compute: Compute, tensors: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            together = compute(tensors)
            backwards = compute({m: values.flip(0) for m, values in tensors.items()}).flip(0)
            alone = [compute({m: v[i : i + 1] for m, v in tensors.items()}) for i in range(len(together))]
        return max(float((other - together).abs().max()) for other in (backwards, torch.cat(alone)))

    return spread


class Graph(nn.Module):
    """A computation of a network with its inputs in a row, as the exporter wants it."""

    def __init__(self, net: nn.Module, compute: Compute, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.compute, self.names = net, compute, names

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.compute(dict(zip(self.names, tensors, strict=True)))


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[nn.Module, Compute, Mapping[str, Tensor]], Compute]:
    """What `compute` does with `net`, as an ONNX graph with a free batch axis; exported from three windows."""

    def export(net: nn.Module, compute: Compute, tensors: Mapping[str, Tensor]) -> Compute:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        names = tuple(tensors)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecated calls
            program = torch.onnx.export(
                Graph(net, compute, names).eval(),
                tuple(values[:3] for values in tensors.values()),
                input_names=list(names),
                dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in names),),
                opset_version=20,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        program.save(tmp_path / "net.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])

        def run(windows: Mapping[str, Tensor]) -> Tensor:
            return torch.from_numpy(session.run(None, {name: windows[name].numpy() for name in names})[0])

        return run

    return export


@pytest.fixture
def save_pretrained(tmp_path: Path) -> Callable[[str, Callable[[], tuple[Any, dict[str, Any]]]], Path]:
    """`save_pretrained(kind, make)`: the folder of a model of Hugging Face with its processor's settings."""

    def save(kind: str, make: Callable[[], tuple[Any, dict[str, Any]]]) -> Path:
        torch.manual_seed(0)
        net, settings = make()
        net.save_pretrained(tmp_path / kind)
        (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return tmp_path / kind

    return save


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, so no waiting for it either."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def tiny_whisper() -> tuple[Any, dict[str, Any]]:
    """A model of 32 mel bands, and its feature extractor's settings."""
    import transformers

    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=32,
        max_source_positions=32,
        vocab_size=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return transformers.WhisperModel(config), {"sampling_rate": 16000, "hop_length": 160}
