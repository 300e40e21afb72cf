"""What onnxruntime's execution providers are told, as pure functions of the settings."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
TENSORRT_PACKAGES: Final = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
DRIVER: Final = Path("/proc/driver/nvidia/gpus")

CudnnSearch = Literal["HEURISTIC", "EXHAUSTIVE", "DEFAULT"]
Options = dict[str, str]


@dataclass(frozen=True)
class RuntimeOptions:
    """What an operator can choose of a GPU."""

    gpu_memory_bytes: int | None = None
    """Most that onnxruntime's arena takes on each device; None for all there is."""
    cudnn_search: CudnnSearch = "HEURISTIC"
    cache_dir: Path | None = None
    """Where TensorRT keeps its engines; None builds them at every start."""


def provider_options(name: str, device: int, options: RuntimeOptions, *, graph_key: str, profile: Options) -> Options:
    """Of one provider, for one graph on the device with this number. `profile` is `shape_profile`'s."""
    if name == CUDA:
        return cuda_options(device, options)
    if name == TENSORRT:
        return tensorrt_options(device, options, graph_key, profile)
    return {}


def cuda_options(device: int, options: RuntimeOptions) -> Options:
    """The arena grows by what is asked for and no more, so that a burst leaves little behind."""
    given = {
        "device_id": str(device),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": options.cudnn_search,
    }
    return given if options.gpu_memory_bytes is None else given | {"gpu_mem_limit": str(options.gpu_memory_bytes)}


def tensorrt_options(device: int, options: RuntimeOptions, graph_key: str, profile: Options) -> Options:
    """float32 only, since a bundle's golden output was computed so; one engine for all batch sizes."""
    given = {"device_id": str(device), "trt_fp16_enable": "0", **profile}
    if options.gpu_memory_bytes is not None:
        given["trt_max_workspace_size"] = str(options.gpu_memory_bytes)
    if options.cache_dir is None:
        return given
    folder = str(engine_folder(options.cache_dir, graph_key, gpu_models(DRIVER), tensorrt_versions()))
    return given | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


def shape_profile(inputs: Mapping[str, Sequence[int]], batches: Sequence[int]) -> Options:
    """The batches that an engine is built for, the last of them being the usual one under load.

    >>> shape_profile({"x": (10, 3)}, (1, 2, 4))["trt_profile_max_shapes"]
    'x:4x10x3'
    """

    def shapes(batch: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in inputs.items())

    return {
        "trt_profile_min_shapes": shapes(batches[0]),
        "trt_profile_opt_shapes": shapes(batches[-1]),
        "trt_profile_max_shapes": shapes(batches[-1]),
    }


def engine_folder(cache_dir: Path, graph_key: str, device: str, versions: str) -> Path:
    """An engine fits one graph, one kind of device and one version; another one gets another folder.

    >>> engine_folder(Path("/cache"), "0a1b", "NVIDIA L4", "1.31.1-10.9").as_posix()
    '/cache/tensorrt/0a1b-NVIDIA_L4-1.31.1-10.9'
    """
    name = f"{graph_key}-{device}-{versions}"
    return cache_dir / "tensorrt" / "".join(sign if sign.isalnum() or sign in "-." else "_" for sign in name)


def gpu_models(driver: Path) -> str:
    """The models of this machine's GPUs, sorted, each once, as NVIDIA's driver names them; `gpu` where it does not."""
    models = set()
    for file in sorted(driver.glob("*/information")):
        lines = dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
        models.add(lines.get("Model", "").strip())
    return "+".join(sorted(models - {""})) or "gpu"


def tensorrt_versions() -> str:
    """onnxruntime's version, and TensorRT's where it was installed by pip."""
    versions = [importlib.metadata.version(name) for name in ("onnxruntime-gpu", "onnxruntime") if installed(name)][:1]
    return "-".join(versions + [importlib.metadata.version(name) for name in TENSORRT_PACKAGES if installed(name)][:1])


def installed(package: str) -> bool:
    """Whether pip knows it."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
