"""What the providers are told, without the hardware."""

from pathlib import Path

import pytest

from service.runtime.provider_options import (
    CPU,
    CUDA,
    TENSORRT,
    RuntimeOptions,
    cuda_options,
    gpu_models,
    provider_options,
    shape_profile,
    tensorrt_options,
)


def test_the_cuda_arena_grows_by_what_is_asked_for_and_has_a_limit_only_where_one_is_set():
    free = cuda_options(1, RuntimeOptions())

    assert free == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    limited = cuda_options(0, RuntimeOptions(gpu_memory_bytes=2 << 30, cudnn_search="EXHAUSTIVE"))
    assert (limited["gpu_mem_limit"], limited["cudnn_conv_algo_search"]) == ("2147483648", "EXHAUSTIVE")


def test_tensorrt_keeps_its_engines_where_a_folder_is_named_and_never_rounds_to_half_precision(tmp_path):
    without = tensorrt_options(0, RuntimeOptions(), "0a1b", {})
    kept = tensorrt_options(0, RuntimeOptions(cache_dir=tmp_path), "0a1b", {})

    assert without == {"device_id": "0", "trt_fp16_enable": "0"}
    assert kept["trt_engine_cache_enable"] == "1"
    folder = Path(kept["trt_engine_cache_path"])
    assert folder.parent == tmp_path / "tensorrt"
    assert folder.name.startswith("0a1b-")
    assert tensorrt_options(0, RuntimeOptions(cache_dir=tmp_path), "ffff", {})["trt_engine_cache_path"] != str(folder)


def test_one_engine_is_built_for_all_batches():
    assert shape_profile({"face": (10, 112, 112, 3), "eda": (5,)}, (1, 2, 32)) == {
        "trt_profile_min_shapes": "face:1x10x112x112x3,eda:1x5",
        "trt_profile_opt_shapes": "face:32x10x112x112x3,eda:32x5",
        "trt_profile_max_shapes": "face:32x10x112x112x3,eda:32x5",
    }


@pytest.mark.parametrize("name", [CPU, "SomeOtherExecutionProvider"])
def test_other_providers_are_told_nothing(name):
    assert provider_options(name, 0, RuntimeOptions(), graph_key="k", profile={"trt_profile_min_shapes": "x:1"}) == {}


def test_each_provider_gets_its_own_options():
    options = RuntimeOptions()
    profile = {"trt_profile_min_shapes": "x:1"}

    assert provider_options(CUDA, 2, options, graph_key="k", profile=profile) == cuda_options(2, options)
    assert provider_options(TENSORRT, 2, options, graph_key="k", profile=profile)["trt_profile_min_shapes"] == "x:1"


def test_the_models_of_gpus_are_read_from_the_driver(tmp_path):
    for number, model in enumerate(["NVIDIA L4", "NVIDIA A100", "NVIDIA L4"]):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 42\n")

    assert gpu_models(tmp_path) == "NVIDIA A100+NVIDIA L4"
    assert gpu_models(tmp_path / "none") == "gpu"
