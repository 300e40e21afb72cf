"""Audio encoders of Hugging Face that hear the waveform, on tiny models that are made here with random weights."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.nets.encoder_spec import EncoderSpec
from models.nets.encoders import EncoderError, build_encoder
from models.nets.errors import HuggingFaceError
from models.spec import InputSpec, LogMelSpec, VoiceSpec, WaveformSpec
from tests.models.nets.conftest import tiny_whisper

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("no_hub")

Compute = Callable[[Mapping[str, Tensor]], Tensor]
Save = Callable[[str], Path]

SAMPLES = 4000
INPUTS = InputSpec(window_s=0.25, hop_s=0.25, voice=WaveformSpec())
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TALL = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 4), "conv_stride": (5, 4, 4), "num_feat_extract_layers": 3}
PLACES = {"num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2}
LAYERS = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SETTINGS = {"sampling_rate": 16000, "do_normalize": True}


def speech(name: str, **config: Any) -> Callable[[], tuple[Any, dict[str, Any]]]:
    """A model of the family `name` with three convolutions and two layers."""
    kind = getattr(transformers, f"{name}Config")
    return lambda: (getattr(transformers, f"{name}Model")(kind(**SMALL, **TALL, **PLACES | config)), SETTINGS)


def moonshine() -> tuple[Any, dict[str, Any]]:
    parts = {
        f"{part}_{what}": 2
        for part in ("encoder", "decoder")
        for what in ("num_attention_heads", "num_key_value_heads")
    }
    config = transformers.MoonshineConfig(
        hidden_size=16,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        vocab_size=50,
        **parts,
    )
    return transformers.MoonshineModel(config), SETTINGS | {"do_normalize": False}


FAMILIES = {
    "wav2vec2": speech("Wav2Vec2"),
    "wav2vec2 with layer norm": speech("Wav2Vec2", **LAYERS),
    "wav2vec2 with adapter": speech("Wav2Vec2", add_adapter=True, num_adapter_layers=1),
    "wav2vec2-conformer": speech("Wav2Vec2Conformer", position_embeddings_type="rotary"),
    "hubert": speech("Hubert"),
    "wavlm": speech("WavLM", num_buckets=16, max_bucket_distance=40),
    "data2vec-audio": speech("Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=3),
    "unispeech": speech("UniSpeech"),
    "unispeech-sat": speech("UniSpeechSat"),
    "sew": speech("SEW"),
    "sew-d": speech("SEWD", position_buckets=8, max_position_embeddings=32),
    "moonshine": moonshine,
}
MODELS = FAMILIES | {
    "conformer with relative positions": speech("Wav2Vec2Conformer"),
    "that leaves much out": speech("Wav2Vec2", mask_time_prob=0.9, mask_time_length=500, layerdrop=0.9),
    "vit": lambda: (transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)), {}),
    "whisper": tiny_whisper,
}


@pytest.fixture
def saved(save_pretrained: Callable[..., Path]) -> Save:
    """The folder of one of `MODELS`."""
    return lambda kind: save_pretrained(kind, MODELS[kind])


def build(folder: Path, *, frozen: bool = False, voice: VoiceSpec | None = None, window_s: float = 0.25) -> nn.Module:
    inputs = INPUTS.model_copy(update={"voice": voice or WaveformSpec(), "window_s": window_s})
    spec = EncoderSpec(name="huggingface", model=str(folder), frozen=frozen)
    return build_encoder("voice", inputs, spec, dim=32, steps=2).eval()


def windows(n: int) -> Tensor:
    """Noise of rising loudness; the last one ends with silence."""
    sound = torch.randn(n, SAMPLES, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, -1, n)[:, None]
    sound[-1, SAMPLES // 2 :] = 0
    return sound


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_answers_for_each_window_by_itself(
    kind: str, saved: Save, spread_over_batches: Callable[[Compute, Mapping[str, Tensor]], float]
) -> None:
    encoder = build(saved(kind))

    assert encoder(windows(5)).shape == (5, 2, 32)
    assert spread_over_batches(lambda t: encoder(t["voice"]), {"voice": windows(5)}) <= 1e-5
    assert (encoder(windows(5))[0] - encoder(windows(5))[1]).abs().max() > 1e-3
    assert encoder(torch.zeros(1, SAMPLES)).isfinite().all()


@pytest.mark.parametrize("kind", ["wav2vec2 with layer norm", "hubert", "wavlm"])
def test_a_model_exports_and_computes_what_torch_does(
    kind: str,
    saved: Save,
    spread_over_batches: Callable[[Compute, Mapping[str, Tensor]], float],
    exported: Callable[[nn.Module, Compute, Mapping[str, Tensor]], Compute],
) -> None:
    encoder = build(saved(kind))
    tensors = {"voice": windows(5)}

    def compute(t: Mapping[str, Tensor]) -> Tensor:
        return encoder(t["voice"])  # type: ignore[no-any-return]

    graph = exported(encoder, compute, tensors)

    assert spread_over_batches(graph, tensors) <= 1e-5
    assert (graph(tensors) - compute(tensors)).abs().max() <= 1e-4


@pytest.mark.parametrize("normalised", [True, False])
def test_a_model_hears_what_its_feature_extractor_would_give_it(normalised: bool, saved: Save) -> None:
    folder, sound = saved("wav2vec2"), windows(4)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalised)
    extractor.save_pretrained(folder)
    encoder, heard = build(folder), list[Tensor]()
    encoder.get_submodule("backbone.net.net").register_forward_pre_hook(
        lambda _module, _args, kwargs: heard.append(kwargs["input_values"]), with_kwargs=True
    )

    encoder(sound)

    wanted = extractor([*sound.numpy()], sampling_rate=16000, return_tensors="pt")["input_values"]
    assert torch.allclose(heard[0], wanted, atol=1e-5)
    assert heard[0][0].std() == pytest.approx(0.95 if normalised else 0.001, rel=0.01)  # 1e-6 of variance, 1e-7 added


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "unispeech"])
def test_a_gradient_reaches_every_layer(kind: str, saved: Save) -> None:
    encoder = build(saved(kind)).train()

    encoder(windows(3)).square().mean().backward()

    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_nothing_is_masked_or_skipped_in_training(saved: Save) -> None:
    encoder = build(saved("that leaves much out"))
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for layer in encoder.get_submodule("backbone.net.net.encoder.layers"):
        layer.attention.dropout = 0.0
    evaluated = encoder(windows(3))

    assert torch.allclose(encoder.train()(windows(3)), evaluated, atol=1e-6)


def test_a_checkpoint_without_the_vector_of_masks_is_whole(saved: Save) -> None:
    folder = saved("wav2vec2")
    config = json.loads((folder / "config.json").read_text())
    net = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**config | {"mask_time_prob": 0.0}))
    net.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config | {"mask_time_prob": 0.05}))

    assert build(folder)(windows(2)).shape == (2, 2, 32)


def test_a_frozen_model_stays_as_it_is_and_may_be_run_apart(saved: Save) -> None:
    encoder = build(saved("hubert"), frozen=True).train()
    frozen = encoder.get_submodule("backbone.net")
    before = {k: v.clone() for k, v in frozen.state_dict().items()}

    encoder(windows(3)).square().mean().backward()

    assert all(torch.equal(before[k], v) for k, v in frozen.state_dict().items())
    assert {n for n, p in encoder.named_parameters() if p.grad is not None} == {
        n for n, _ in encoder.named_parameters() if not n.startswith("backbone.")
    }
    assert not any(module.training for module in frozen.modules())
    seen = encoder.see(windows(3))  # type: ignore[operator]
    assert seen.shape == (3, 1, 49, 16)
    assert torch.equal(encoder.eval()(seen), encoder(windows(3)))


@pytest.mark.parametrize(
    ("kind", "voice", "window_s", "message"),
    [
        (
            "hubert",
            WaveformSpec(sample_rate_hz=8000),
            0.25,
            "takes sound at 16000 Hz; inputs.voice.sample_rate_hz is 8000",
        ),
        ("hubert", LogMelSpec(), 0.25, "is of type hubert; .* set inputs.voice to {form: waveform}"),
        (
            "whisper",
            WaveformSpec(),
            0.25,
            "is of type whisper, which takes log-mel .*: set inputs.voice.form to log-mel",
        ),
        (
            "vit",
            WaveformSpec(),
            0.25,
            "is of type vit; supported are .* models that take `input_values`, such as wav2vec2",
        ),
        (
            "wavlm",
            WaveformSpec(),
            0.001,
            r"gives no features for a window of 16 samples \(Calculated padded input size",
        ),
        ("conformer with relative positions", WaveformSpec(), 0.25, "has relative positions, .* expected rotary"),
    ],
)
def test_a_model_that_cannot_hear_the_input_says_why(
    kind: str, voice: VoiceSpec, window_s: float, message: str, saved: Save
) -> None:
    with pytest.raises(HuggingFaceError, match=message) as error:
        build(saved(kind), voice=voice, window_s=window_s)

    assert "\n" not in str(error.value)


def test_the_small_encoder_hears_no_waveform() -> None:
    with pytest.raises(EncoderError, match="voice cannot have 'small', only huggingface"):
        build_encoder("voice", INPUTS, EncoderSpec(), dim=32, steps=2)
