"""Frozen encoders see a corpus once, and nothing of the result depends on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.nets.encoders import build_encoder
from models.nets.frames import Pictures
from models.nets.resnet18 import IMAGENET_MEAN, IMAGENET_STD, ResNet18
from training.config import RunConfig
from training.data.frozen import originals, seen_once
from training.stages.calibration import calibrate
from training.stages.export import Measured, export_bundle
from training.stages.setting import Setting

CPU = torch.device("cpu")


@pytest.fixture
def setting(toy_setting: Callable[[str], Setting], tmp_path: Path) -> Setting:
    """Toy people whose faces a frozen ResNet-18 sees."""
    torch.manual_seed(4)
    torch.save(ResNet18().state_dict(), tmp_path / "weights.pt")
    toy = toy_setting("pain")
    face = {"name": "resnet18", "weights": str(tmp_path / "weights.pt"), "frozen": True}
    network = {"dim": 16, "encoders": {"face": face}}
    return replace(toy, config=RunConfig.model_validate(toy.config.model_dump() | {"network": network}))


def test_what_was_seen_once_gives_the_same_features_and_is_not_seen_again(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)
    encoder = build_encoder(
        "face", setting.config.inputs, setting.config.network.encoder("face"), dim=16, steps=5
    ).eval()

    assert torch.allclose(encoder(seen.tensor("face")), encoder(setting.train.tensor("face")), atol=1e-5)
    assert seen.store["eda"] is setting.train.store["eda"]
    assert originals(setting.train, seen) == {"face": setting.train.store["face"]}
    monkeypatch.setattr("training.data.frozen._write", None)
    again = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)
    assert torch.equal(again.tensor("face"), seen.tensor("face"))


def test_other_weights_under_the_same_name_are_another_encoder(setting: Setting, tmp_path: Path) -> None:
    first = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)
    torch.manual_seed(5)
    torch.save(ResNet18().state_dict(), tmp_path / "weights.pt")

    second = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)

    assert not torch.allclose(first.tensor("face"), second.tensor("face"))


@pytest.mark.parametrize("other", [{"mean": (0.0, 0.0, 0.0)}, {"std": (1.0, 1.0, 1.0)}, {"size_px": 48}])
def test_the_same_weights_for_pictures_prepared_otherwise_are_another_encoder(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    first = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)
    changed = Pictures(IMAGENET_MEAN, IMAGENET_STD, size_px=None)._replace(**other)
    monkeypatch.setattr("models.nets.frames.Pictures", lambda *_, **__: changed)

    second = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)

    assert not torch.allclose(first.tensor("face"), second.tensor("face"))


@pytest.mark.parametrize("form", ["log-mel", "waveform"])
def test_a_frozen_model_of_voices_hears_a_corpus_once(
    form: str,
    toy_setting: Callable[[str], Setting],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if form == "waveform":
        tall = {"conv_dim": (8, 8), "conv_kernel": (8, 8), "conv_stride": (8, 8), "num_conv_pos_embeddings": 6}
        net = transformers.HubertModel(transformers.HubertConfig(**small, **tall, num_conv_pos_embedding_groups=2))
    else:
        net = transformers.ASTModel(transformers.ASTConfig(**small, patch_size=8, max_length=200, num_mel_bins=16))
    net.save_pretrained(tmp_path / "model")

    def extract(**settings: Any) -> None:
        (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000} | settings))

    extract()
    toy = toy_setting("valence-arousal")
    voice = {"form": form} | ({"mels": 16, "high_hz": 8000} if form == "log-mel" else {"sample_rate_hz": 16000})
    network = {
        "dim": 16,
        "encoders": {"voice": {"name": "huggingface", "model": str(tmp_path / "model"), "frozen": True}},
    }
    values = toy.config.model_dump() | {"network": network}
    config = RunConfig.model_validate(values | {"inputs": values["inputs"] | {"voice": voice}})
    heard = torch.randn(len(toy.train.store["voice"]), *config.inputs.shape("voice"))
    windows = replace(toy.train, store={**toy.train.store, "voice": heard})
    encoder = build_encoder("voice", config.inputs, config.network.encoder("voice"), dim=16, steps=5).eval()

    seen = seen_once(windows, config, "toy", tmp_path / "frozen", CPU)

    assert seen.store["voice"].dim() == 4
    assert torch.allclose(encoder(seen.tensor("voice")), encoder(windows.tensor("voice")), atol=1e-5)
    assert originals(windows, seen) == {"voice": heard}
    extract(do_normalize=False)
    again = seen_once(windows, config, "toy", tmp_path / "frozen", CPU)
    assert not torch.allclose(again.tensor("voice"), seen.tensor("voice"))


def test_a_graph_takes_pictures_though_its_student_was_trained_on_features(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = tmp_path / "nets"
    nets.mkdir()
    for name in ("detector_short.onnx", "detector_full.onnx", "landmarks.onnx"):
        (nets / name).write_bytes(b"a net")
    monkeypatch.setattr("training.stages.export.cached_face_nets", lambda: nets)
    monkeypatch.setattr("training.stages.export.bundle.load", lambda path: path)
    seen = seen_once(setting.train, setting.config, "toy", tmp_path / "frozen", CPU)
    setting = replace(setting, train=seen, shown=originals(setting.train, seen))
    student = setting.new_student(("face",)).eval()
    calibration, _ = calibrate(setting, student, ("face",))
    export_bundle(setting, {("face",): student}, Measured({("face",): calibration}, {}, {}), tmp_path / "bundle")

    assert (tmp_path / "bundle" / "graphs" / "face.onnx").is_file()
