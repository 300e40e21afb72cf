"""Models of Hugging Face, by a local folder or an id on the hub; and its vision encoders, on each frame of a face.

`transformers` is imported when such an encoder is built, not before.
Axes: N pictures, P patches, W the model's features.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.nets.backbone import Backbone
from models.nets.encoder_spec import EncoderSpec
from models.nets.errors import HuggingFaceError
from models.nets.frames import FrameEncoder, Pictures
from models.spec import FaceSpec

RANDOM_IN_TRAINING: Final = ("mask_time_prob", "mask_feature_prob", "layerdrop", "encoder_layerdrop")
"""What a speech model may leave out while it is trained, beside its dropout. All of it is switched off: masks come from
NumPy's own generator, so that no run could be repeated, and fail in windows that are shorter than one; which layers are
skipped would differ between ranks."""


def huggingface_face_encoder(spec: FaceSpec, encoder: EncoderSpec, *, dim: int, steps: int) -> FrameEncoder:
    """A vision model on each frame, resized and standardised as its processor says: any that takes `pixel_values`.

    The crop is resized whole, with nothing cut off: it holds nothing but the face. Exported and compared with ONNX were
    ViT, DeiT, BEiT, DINOv2, DINOv3, CLIP, SigLIP, Swin, Swin V2, ConvNeXt (1 and 2), ResNet, RegNet, MobileNet V2,
    PVT v2, SegFormer, LeViT and PoolFormer. Raises HuggingFaceError.
    """
    assert encoder.model is not None  # EncoderSpec saw to it
    pictures = _pictures(encoder.model, processor_settings(encoder.model, "image_processor"))
    assert pictures.size_px is not None
    net, missing = load_model(encoder.model)
    net = getattr(net, "vision_model", net)  # of a model for pictures and text
    if "swin" in getattr(getattr(net, "config", None), "model_type", ""):
        # fused attention over windows comes out in a layout that the ONNX exporter cannot reshape
        net.set_attn_implementation("eager")  # type: ignore[operator]
    if getattr(net, "main_input_name", None) != "pixel_values":
        raise HuggingFaceError(f"{encoder.model} is not a vision model: it takes no `pixel_values`")
    if any("pooler" in name for name in missing):
        net.pooler = None  # it would be random
    features = PictureFeatures(net)
    width = _width(features, pictures.size_px, encoder.model)
    backbone = Backbone(features, frozen=encoder.frozen)
    return FrameEncoder(backbone, width, pictures, spec, dim=dim, steps=steps)


class PictureFeatures(nn.Module):
    """Pictures (N, 3, S, S) to the model's pooled output (N, W); where it has none, to the mean of its last layer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> Tensor:
        out = self.net(pixel_values=pictures)
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)  # (N, W), also from (N, W, 1, 1)
        last: Tensor = out.last_hidden_state
        return last.mean(dim=1) if last.dim() == 3 else last.mean(dim=(2, 3))  # from (N, P, W) or (N, W, H, H)


def load_model(model: str) -> tuple[nn.Module, set[str]]:
    """The model in float32, and the names of the weights that its files lack and that are therefore random.

    Only poolers may be missing. Raises HuggingFaceError.
    """
    transformers = import_transformers(model)
    _require_folder(model)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # a classifier that is not used is no news
    try:
        config = transformers.AutoConfig.from_pretrained(model)
        for name in RANDOM_IN_TRAINING:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        net, report = transformers.AutoModel.from_pretrained(
            model, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # damaged files, and packages that are not there, make the library raise anything
        raise unusable(model, error) from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    missing = set(report["missing_keys"])
    if strange := sorted(name for name in missing if "pooler" not in name):
        raise HuggingFaceError(f"{model}: its files have no key {strange[0]!r}; expected all weights of the model")
    if report["mismatched_keys"]:
        name, given, expected = min(report["mismatched_keys"])
        raise HuggingFaceError(f"{model}: {name!r} has shape {tuple(given)}; its config.json says {tuple(expected)}")
    return net, missing


def processor_settings(model: str, part: str) -> dict[str, Any]:
    """What the model's processor does with its input; `part` is its name where a file describes several."""
    transformers = import_transformers(model)
    _require_folder(model)
    for name in ("preprocessor_config.json", "processor_config.json"):
        try:
            file = transformers.utils.cached_file(model, name, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError) as error:
            raise unusable(model, error) from None
        if file is None:
            continue
        try:
            settings = json.loads(Path(file).read_text(encoding="utf-8"))
        except ValueError as error:
            raise HuggingFaceError(f"{model}: its {name} is not JSON in UTF-8: {error}") from None
        if isinstance(settings, dict):
            return dict(settings.get(part, settings))
    raise HuggingFaceError(f"{model} has no preprocessor_config.json, which says how its input is prepared")


def import_transformers(model: str) -> Any:
    """The library; HuggingFaceError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise HuggingFaceError(f"{model} needs the package transformers: pip install 'transformers>=5,<6'") from None
    return transformers


def unusable(model: str, error: Exception) -> HuggingFaceError:
    """The library's long message as one sentence."""
    return HuggingFaceError(
        f"{model} cannot be loaded; expected a local folder or an id on the hub: {first_sentence(error)}"
    )


def first_sentence(error: Exception) -> str:
    """Of its message, without the stop; what kind of error it is where it has none."""
    return re.split(r"[.:]?\n|\.\s", str(error).strip() or type(error).__name__)[0].rstrip(".")


def _require_folder(model: str) -> None:
    looks_like_a_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_like_a_path and not Path(model).is_dir():
        raise HuggingFaceError(f"{model} is not a folder; expected one that save_pretrained wrote, or an id on the hub")


def _pictures(model: str, settings: dict[str, Any]) -> Pictures:
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if not isinstance(size, int):
        raise HuggingFaceError(f"{model}: its processor names no size of pictures; expected size.height or crop_size")
    if not math.isclose(float(settings.get("rescale_factor", 1 / 255)), 1 / 255, rel_tol=1e-3):
        raise HuggingFaceError(f"{model}: its processor's rescale_factor is not 1/255; expected pictures in [0, 1]")
    plain = not settings.get("do_normalize", True)
    mean, std = ([0.0] * 3, [1.0] * 3) if plain else (settings.get("image_mean"), settings.get("image_std"))
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3):
        raise HuggingFaceError(f"{model}: its processor has image_mean {mean} and image_std {std}; expected 3 of each")
    return Pictures(tuple(mean), tuple(std), size)


def _width(features: PictureFeatures, size_px: int, model: str) -> int:
    picture = torch.linspace(-2, 2, 2 * 3 * size_px * size_px).reshape(2, 3, size_px, size_px)
    features.eval()
    try:
        with torch.no_grad():
            first, second = features(picture), features(picture)
    except Exception as error:  # whatever it is that a strange model does with pictures
        size = f"{size_px} × {size_px} pixels, as its processor makes them"
        raise HuggingFaceError(f"{model} gives no features for pictures of {size} ({first_sentence(error)})") from None
    if not torch.equal(first, second):
        raise HuggingFaceError(f"{model} answers the same picture differently each time; expected an encoder")
    return int(first.shape[1])
