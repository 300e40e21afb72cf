"""A bundle whose student hears the waveform: what it was exported with is what recordings, tensors and streams get."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import bundle as bundle_format
from models.inputs.media.media import MediaLimits, read_sound
from models.nets.network import NetworkSpec
from models.nets.student import Student
from models.spec import InputSpec, WaveformSpec
from service.settings import Settings
from tests import loopback
from training.stages.export import OUTPUT, Graph, to_onnx
from training.stages.golden import golden_windows

transformers = pytest.importorskip("transformers")

SAMPLES = 16_000
INPUTS = InputSpec(window_s=1.0, hop_s=1.0, voice=WaveformSpec())


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Student]:
    """With a tiny wav2vec 2.0 of random weights."""
    model = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 8, 4),
        conv_stride=(5, 8, 8),
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(model)
    (model / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000, "do_normalize": True}))
    encoders = {"voice": {"name": "huggingface", "model": str(model)}}
    network = NetworkSpec.model_validate({"dim": 16, "steps": 2, "encoders": encoders})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield Student(("voice",), (), INPUTS, network, task="valence-arousal", outputs=2).eval()


def answers(student: Student, windows: np.ndarray) -> np.ndarray:
    """What torch says: windows (N, samples) to (N, 2)."""
    with torch.no_grad():
        return np.asarray(student({"voice": torch.from_numpy(windows)}).output.numpy())


@pytest.fixture(scope="module")
def port(
    student: Student,
    tmp_path_factory: pytest.TempPathFactory,
    open_server: Callable[[Settings], AbstractContextManager[Any]],
) -> Iterator[int]:
    """Of a service with the student's bundle, which has passed its golden check."""
    folder = tmp_path_factory.mktemp("bundles") / "affect"
    folder.mkdir()
    to_onnx(Graph(student), INPUTS, folder / "voice.onnx")
    golden = golden_windows(INPUTS, ("voice",))
    np.savez(folder / "golden.npz", allow_pickle=False, output=answers(student, golden["voice"]), **golden)
    graph = {
        "available": ["voice"],
        "hallucinated": [],
        "file": "voice.onnx",
        "inputs": {"voice": "voice"},
        "output": OUTPUT,
        "golden": "golden.npz",
        "calibration": {"quantiles": {"valence": None, "arousal": None}, "people": 0, "windows": 0, "reason": "None."},
    }
    provenance = {"trained_on": "nobody", "synthetic": True, "protocol": "none", "metrics": {}, "git_revision": None}
    about = {"name": "heard", "task": "valence-arousal", "prevalent": ["voice"], "privileged": [], "face": None}
    bundle_format.write(
        folder, about | {"inputs": INPUTS, "graphs": [graph], "provenance": provenance | {"licences": {}}}
    )
    with open_server(Settings(bundles=folder, port=0)) as live:
        yield live.port


def values(windows: list[dict[str, Any]]) -> np.ndarray:
    """Valence and arousal of an answer's windows, (N, 2)."""
    return np.array([[window[output]["value"] for output in ("valence", "arousal")] for window in windows])


def test_the_golden_windows_are_computed_voices_in_full_length() -> None:
    windows = golden_windows(INPUTS, ("voice",))["voice"]

    assert (windows.shape, windows.dtype) == ((4, SAMPLES), np.float32)
    assert 0.01 < np.abs(windows[:, -1000:]).max() <= 1
    assert not np.array_equal(windows[0], windows[1])


def test_a_recording_is_answered_with_what_torch_says_of_its_sound(port: int, student: Student, clips: Path) -> None:
    clip = (clips / "no_face.mp4").read_bytes()
    sound = read_sound(clip, SAMPLES, MediaLimits())
    assert sound is not None

    reply = loopback.post(f"http://127.0.0.1:{port}/predict/valence-arousal", files={"video": clip}, timeout=60)

    assert reply.status_code == 200, reply.text
    windows = reply.json()["windows"]
    assert [(window["start_s"], window["observed"]) for window in windows] == [(n, ["voice"]) for n in range(4)]
    expected = answers(student, np.pad(sound, (0, 4 * SAMPLES - len(sound))).reshape(4, SAMPLES))
    np.testing.assert_allclose(values(windows), expected, atol=1e-4)
    assert np.ptp(values(windows), axis=0).min() > 1e-3


def test_tensors_and_streams_are_answered_alike(
    port: int, student: Student, talk: Callable[..., AbstractContextManager[Any]], speech: np.ndarray
) -> None:
    windows = (speech[: 3 * SAMPLES].reshape(3, SAMPLES) / 32768).astype(np.float32)
    expected = answers(student, windows)

    (fed,) = loopback.get(f"http://127.0.0.1:{port}/v2/models/heard", timeout=60).json()["inputs"]
    assert fed == {"name": "voice", "datatype": "FP32", "shape": [-1, SAMPLES]}
    asked = {"inputs": [{"name": "voice", "datatype": "FP32", "shape": [3, SAMPLES], "data": windows.ravel().tolist()}]}
    reply = loopback.post(f"http://127.0.0.1:{port}/v2/models/heard/infer", json=asked, timeout=60)
    assert reply.status_code == 200, reply.text
    by_name = {output["name"]: output["data"] for output in reply.json()["outputs"]}
    np.testing.assert_allclose(np.reshape(by_name["values"], (3, 2)), expected, atol=1e-4)

    with talk(port, "valence-arousal", {"audio": {"sample_rate": SAMPLES, "channels": 1}}) as client:
        assert client.hear()["type"] == "ready"
        client.sound(0.0, speech[: 3 * SAMPLES])
        told, _ = client.end()
    np.testing.assert_allclose(values(told), expected, atol=1e-4)
