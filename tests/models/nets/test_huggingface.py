"""Vision and audio encoders of Hugging Face, on tiny models that are made here with random weights."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.inputs.voice import log_mel
from models.nets.encoder_spec import EncoderSpec
from models.nets.encoders import build_encoder
from models.nets.errors import HuggingFaceError
from models.spec import FaceSpec, InputSpec, LogMelSpec
from tests.models.nets.conftest import tiny_whisper

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("no_hub")

Compute = Callable[[Mapping[str, Tensor]], Tensor]

INPUTS = InputSpec(
    window_s=0.5, hop_s=0.5, face=FaceSpec(frames=3, size_px=40), voice=LogMelSpec(mels=32, low_hz=0, high_hz=8000)
)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION = SMALL | {"image_size": 32, "patch_size": 8}
PICTURES = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}


Save = Callable[[str], Path]


@pytest.fixture
def saved(save_pretrained: Callable[..., Path]) -> Save:
    """The folder of one of `MODELS`."""
    return lambda kind: save_pretrained(kind, MODELS[kind])


def ast() -> tuple[Any, dict[str, Any]]:
    config = transformers.ASTConfig(
        **SMALL, patch_size=8, frequency_stride=4, time_stride=4, max_length=64, num_mel_bins=32
    )
    return transformers.ASTForAudioClassification(config), {"sampling_rate": 16000, "mean": -5.0, "std": 3.0}


def wav2vec2() -> tuple[Any, dict[str, Any]]:
    config = transformers.Wav2Vec2Config(**SMALL, conv_dim=(16, 16), conv_stride=(2, 2), conv_kernel=(3, 3))
    return transformers.Wav2Vec2Model(config), {"sampling_rate": 16000}


def clip() -> tuple[Any, dict[str, Any]]:
    config = transformers.CLIPConfig(
        text_config=SMALL | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}, vision_config=VISION
    )
    return transformers.CLIPModel(config), PICTURES


def resnet() -> tuple[Any, dict[str, Any]]:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return transformers.ResNetModel(config), PICTURES


def swin() -> tuple[Any, dict[str, Any]]:
    """Two layers: the second one's windows are shifted."""
    config = transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[2], num_heads=[2], window_size=4)
    return transformers.SwinModel(config), PICTURES


MODELS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "vit": lambda: (transformers.ViTModel(transformers.ViTConfig(**VISION)), PICTURES),
    "vit for classes": lambda: (transformers.ViTForImageClassification(transformers.ViTConfig(**VISION)), PICTURES),
    "clip": clip,
    "resnet": resnet,
    "swin": swin,
    "mae": lambda: (transformers.ViTMAEModel(transformers.ViTMAEConfig(**VISION)), PICTURES),
    "bert": lambda: (transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=50)), PICTURES),
    "ast": ast,
    "whisper": tiny_whisper,
    "wav2vec2": wav2vec2,
}


def build(modality: str, folder: Path | str, inputs: InputSpec = INPUTS, *, frozen: bool = False) -> nn.Module:
    spec = EncoderSpec(name="huggingface", model=str(folder), frozen=frozen)
    return build_encoder(modality, inputs, spec, dim=32, steps=2).eval()


def windows(modality: str, n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if modality == "face":
        return {"face": torch.randint(0, 256, (n, *INPUTS.shape("face")), dtype=torch.uint8, generator=generator)}
    return {"voice": -6 + 3 * torch.randn(n, *INPUTS.shape("voice"), generator=generator)}


@pytest.mark.parametrize(
    ("modality", "kind"), [("face", "vit"), ("face", "swin"), ("voice", "ast"), ("voice", "whisper")]
)
def test_a_model_exports_and_answers_for_each_window_by_itself(
    modality: str,
    kind: str,
    saved: Save,
    spread_over_batches: Callable[[Compute, Mapping[str, Tensor]], float],
    exported: Callable[[nn.Module, Compute, Mapping[str, Tensor]], Compute],
) -> None:
    encoder = build(modality, saved(kind))
    tensors = windows(modality, 5)

    def compute(t: Mapping[str, Tensor]) -> Tensor:
        return encoder(t[modality])  # type: ignore[no-any-return]

    assert compute(tensors).shape == (5, 2, 32)
    assert spread_over_batches(compute, tensors) <= 1e-5
    graph = exported(encoder, compute, tensors)
    assert spread_over_batches(graph, tensors) <= 1e-5
    assert (graph(tensors) - compute(tensors)).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", ["vit", "vit for classes", "clip", "resnet"])
def test_a_gradient_reaches_every_layer_of_a_vision_model(kind: str, saved: Save) -> None:
    encoder = build("face", saved(kind)).train()

    encoder(windows("face", 3)["face"]).square().mean().backward()

    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("modality", "kind"), [("face", "resnet"), ("voice", "whisper")])
def test_a_frozen_model_stays_as_it_is_in_training(modality: str, kind: str, saved: Save) -> None:
    encoder = build(modality, saved(kind), frozen=True).train()
    frozen = encoder.get_submodule("backbone.net")
    before = {k: v.clone() for k, v in frozen.state_dict().items()}

    encoder(windows(modality, 3)[modality]).square().mean().backward()

    assert all(torch.equal(before[k], v) for k, v in frozen.state_dict().items())
    assert {n for n, p in encoder.named_parameters() if p.grad is not None} == {
        n for n, _ in encoder.named_parameters() if not n.startswith("backbone.")
    }
    assert not any(module.training for module in frozen.modules())


def test_frames_are_resized_and_standardised_as_the_processor_says(saved: Save) -> None:
    encoder = build("face", saved("vit"))
    seen: list[Tensor] = []
    encoder.get_submodule("backbone").register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    frames = torch.zeros(1, *INPUTS.shape("face"), dtype=torch.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = 255, 102, 0

    encoder(frames)

    assert seen[0].shape == (3, 3, 32, 32)
    colour = torch.tensor([(1 - 0.5) / 0.2, (0.4 - 0.4) / 0.25, (0 - 0.3) / 0.5])
    assert torch.allclose(seen[0].mean(dim=(2, 3)), colour.expand(3, 3), atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "size_px"),
    [
        ({"size": {"shortest_edge": 48}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}, 32),
        ({"size": 32}, 32),
        ({"size": {"shortest_edge": 32}, "do_normalize": False}, 32),
        ({"image_processor": {"size": {"height": 32, "width": 32}}}, 32),
    ],
)
def test_the_processors_ways_to_say_a_size_are_understood(settings: dict[str, Any], size_px: int, saved: Save) -> None:
    folder = saved("vit")
    rest = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if "image_processor" in settings:
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(
            json.dumps({"image_processor": settings["image_processor"] | rest})
        )
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | rest))

    assert build("face", folder).size_px == size_px


def test_ast_sees_what_its_feature_extractor_would_give_it(saved: Save) -> None:
    encoder = build("voice", saved("ast"))
    front = encoder.get_submodule("backbone.net")
    seen: list[Tensor] = []
    front.get_submodule("net").register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_values"]), with_kwargs=True
    )
    mel = windows("voice", 2)["voice"]

    encoder(mel)

    assert seen[0].shape == (2, 64, 32)
    assert torch.allclose(seen[0][:, :50], (mel.transpose(1, 2) + 5.0) / 6.0, atol=1e-6)
    assert torch.allclose(seen[0][:, 50:], torch.tensor((0 + 5.0) / 6.0))


def test_whisper_sees_the_energies_that_its_feature_extractor_would_give_it(saved: Save) -> None:
    sound = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    extractor = transformers.WhisperFeatureExtractor(feature_size=32, chunk_length=1)
    wanted = extractor(sound.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"][0]
    assert INPUTS.voice is not None
    mel = torch.from_numpy(log_mel(sound.numpy(), INPUTS.voice, 50))[None]
    encoder = build("voice", saved("whisper"))
    seen: list[Tensor] = []
    encoder.get_submodule("backbone.net.net").register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_features"]), with_kwargs=True
    )

    encoder(mel)

    # a column of one begins where one of the other is centred, so of noise only the means over time can be compared
    means, expected = seen[0][0, :, 2:46].mean(dim=1), wanted[:, 3:47].mean(dim=1)
    assert (means - expected).abs().max() < 0.06
    # our transform is longer than the frame: it has 512/400 bins in a band, and that much more energy
    assert (means - expected).mean() == pytest.approx(math.log10(512 / 400) / 4, abs=0.003)
    assert torch.allclose(seen[0][0, :, 50:], seen[0][0].max() - 2.0)  # silence: 8 powers of ten under the loudest


def test_no_layer_of_whisper_is_skipped_in_training(saved: Save) -> None:
    folder = saved("whisper")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"encoder_layerdrop": 0.9}))
    encoder = build("voice", folder)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    evaluated = encoder(windows("voice", 3)["voice"])

    assert torch.allclose(encoder.train()(windows("voice", 3)["voice"]), evaluated, atol=1e-6)


@pytest.mark.parametrize(
    ("modality", "kind", "message"),
    [
        ("voice", "wav2vec2", "is of type wav2vec2; supported are audio-spectrogram-transformer and whisper"),
        ("voice", "wav2vec2", r"for a model of waveforms set inputs\.voice to {form: waveform}"),
        ("voice", "vit", "is of type vit; supported are"),
        ("face", "bert", "is not a vision model"),
        ("face", "mae", "answers the same picture differently each time"),
    ],
)
def test_a_model_that_cannot_be_used_says_why(modality: str, kind: str, message: str, saved: Save) -> None:
    with pytest.raises(HuggingFaceError, match=message) as error:
        build(modality, saved(kind))

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (LogMelSpec(mels=40), "takes 32 mel bands of sound at 16000 Hz; inputs.voice has mels 40"),
        (LogMelSpec(mels=32, sample_rate_hz=22050), "sample_rate_hz 22050: set them to the model's"),
        (LogMelSpec(mels=32, step_s=0.02), "has a column each 0.01 s"),
        (LogMelSpec(mels=32), "hears 64 columns at most; a window has 100"),
    ],
)
@pytest.mark.parametrize("kind", ["ast", "whisper"])
def test_another_spectrogram_than_the_models_is_refused(
    kind: str, voice: LogMelSpec, message: str, saved: Save
) -> None:
    with pytest.raises(HuggingFaceError, match=message):
        build("voice", saved(kind), INPUTS.model_copy(update={"voice": voice, "window_s": 1.0}))


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "nobody/nothing"])
@pytest.mark.parametrize("modality", ["face", "voice"])
def test_a_model_that_is_not_there_is_named_in_one_sentence(modality: str, model: str) -> None:
    with pytest.raises(HuggingFaceError) as error:
        build(modality, model)

    assert str(error.value).startswith(model)
    assert "\n" not in str(error.value)


def test_without_the_library_the_package_to_install_is_named(saved: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("vit")
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(HuggingFaceError, match=r"needs the package transformers: pip install 'transformers>=5,<6'"):
        build("face", folder)


def test_a_folder_without_a_processor_says_what_is_missing(saved: Save) -> None:
    folder = saved("vit")
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(HuggingFaceError, match=r"has no preprocessor_config\.json"):
        build("face", folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("preprocessor_config.json", b"{", r"its preprocessor_config\.json is not JSON in UTF-8: Expecting"),
        ("preprocessor_config.json", b"\xff", r"its preprocessor_config\.json is not JSON in UTF-8: 'utf-8' codec"),
        ("model.safetensors", b"version https://git-lfs", "cannot be loaded; .*: Error while deserializing header"),
        ("model.safetensors", b"", "cannot be loaded; .*: Error while deserializing header"),
        ("config.json", b'{"model_type": "vit", "hidden_act": "none"}', "cannot be loaded; .*: 'none'$"),
        ("config.json", b'{"model_type": "vit", "hidden_size": "none"}', "field 'hidden_size'$"),
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(file: str, content: bytes, message: str, saved: Save) -> None:
    folder = saved("vit")
    (folder / file).write_bytes(content)

    with pytest.raises(HuggingFaceError, match=message) as error:
        build("face", folder)

    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_weights_in_a_pickle_that_is_none_are_told_in_one_sentence(saved: Save) -> None:
    folder = saved("vit")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"version https://git-lfs")

    with pytest.raises(HuggingFaceError, match=r"an id on the hub: Weights only load failed$"):
        build("face", folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": {"height": 64, "width": 64}}, r"no features for pictures of 64 × 64 .* match model \(32\*32\)\)$"),
        ({"image_mean": 0.5}, r"has image_mean 0\.5 and image_std \[0\.2, 0\.25, 0\.5\]; expected 3 of each"),
    ],
)
def test_a_processor_that_is_not_the_models_is_refused(changed: dict[str, Any], message: str, saved: Save) -> None:
    folder = saved("vit")
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES | changed))

    with pytest.raises(HuggingFaceError, match=message):
        build("face", folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"intermediate_size": 24}, r"0\.mlp\.fc1\.bias' has shape \(32,\); its config\.json says \(24,\)"),
        ({"num_hidden_layers": 3}, r"have no key '.*layer.*2\."),
    ],
    ids=["of another shape", "that lack a layer"],
)
def test_weights_that_do_not_fit_are_refused(changed: dict[str, int], message: str, saved: Save) -> None:
    folder = saved("vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))

    with pytest.raises(HuggingFaceError, match=message):
        build("face", folder)
