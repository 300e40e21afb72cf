"""No network lets a window's answer depend on who shares the batch, in torch and in ONNX."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from models.nets.encoder_spec import EncoderName, EncoderSpec
from models.nets.encoders import build_encoder
from models.nets.network import FusionName, NetworkSpec, TNetName
from models.nets.student import Student
from models.nets.teacher import Teacher
from models.spec import InputSpec

Compute = Callable[[Mapping[str, Tensor]], Tensor]
Windows = Callable[[int], dict[str, Tensor]]
Spread = Callable[[Compute, Mapping[str, Tensor]], float]
Export = Callable[[nn.Module, Compute, Mapping[str, Tensor]], Compute]

INVARIANCE, PARITY = 1e-5, 1e-4

ENCODERS: list[tuple[str, EncoderName]] = [
    ("face", "resnet18"),
    ("face", "r3d18"),
    ("ecg", "spectrogram"),
    ("text", "small"),
    ("gaze", "small"),
]


def wake(net: nn.Module) -> None:
    """Batch normalisation as if it had seen something: a new residual block does nothing yet."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


def test_the_measure_notices_a_network_that_mixes_the_batch(windows: Windows, spread_over_batches: Spread) -> None:
    assert spread_over_batches(lambda t: t["voice"] - t["voice"].mean(dim=0), {"voice": windows(4)["voice"]}) > 0.1


@pytest.mark.parametrize(("modality", "name"), ENCODERS)
def test_an_encoder_answers_for_each_window_by_itself(
    modality: str, name: EncoderName, inputs: InputSpec, windows: Windows, spread_over_batches: Spread, exported: Export
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(modality, inputs, EncoderSpec(name=name), dim=32, steps=3).eval()
    wake(encoder)
    tensors = {modality: windows(5)[modality]}

    def compute(t: Mapping[str, Tensor]) -> Tensor:
        return encoder(t[modality])  # type: ignore[no-any-return]

    assert compute(tensors).shape == (5, 3, 32)
    assert spread_over_batches(compute, tensors) <= INVARIANCE

    graph = exported(encoder, compute, tensors)

    assert spread_over_batches(graph, tensors) <= INVARIANCE
    assert (graph(tensors) - compute(tensors)).abs().max() <= PARITY


@pytest.mark.parametrize("name", ["resnet18", "r3d18"])
def test_batch_statistics_are_not_used_in_training_either(
    name: EncoderName, inputs: InputSpec, windows: Windows, spread_over_batches: Spread
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder("face", inputs, EncoderSpec(name=name), dim=32, steps=3)
    wake(encoder)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.train()

    assert spread_over_batches(lambda t: encoder(t["face"]), {"face": windows(4)["face"]}) <= INVARIANCE
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("fusion", ["transformer", "concat", "jca", "lfan"])
def test_a_teacher_answers_for_each_window_by_itself(
    fusion: FusionName, inputs: InputSpec, windows: Windows, spread_over_batches: Spread
) -> None:
    torch.manual_seed(0)
    names = ("face", "voice", "eda", "text", "gaze")
    net = Teacher(names, inputs, NetworkSpec(dim=32, steps=3, fusion=fusion), task="classification", outputs=7).eval()

    assert spread_over_batches(lambda t: net(t).output, {m: windows(5)[m] for m in names}) <= INVARIANCE


@pytest.mark.parametrize(("fusion", "tnet"), [("jca", "wide"), ("lfan", "transformer")])
def test_a_student_answers_for_each_window_by_itself(
    fusion: FusionName,
    tnet: TNetName,
    inputs: InputSpec,
    windows: Windows,
    spread_over_batches: Spread,
    exported: Export,
) -> None:
    torch.manual_seed(0)
    network = NetworkSpec(dim=32, steps=3, fusion=fusion, tnet=tnet)
    student = Student(("face", "text"), ("eda", "voice"), inputs, network, task="pain", outputs=4).eval()
    for name in student.hallucinated:
        for parameter in student.tnet(name).doubt.parameters():  # new, it says 0 of every window
            nn.init.normal_(parameter, std=0.2)
    tensors = {m: windows(5)[m] for m in student.available}

    def compute(t: Mapping[str, Tensor]) -> Tensor:
        out = student(t)
        return torch.cat([out.output, torch.stack([out.log_variance[m] for m in student.hallucinated], 1)], dim=1)

    assert compute(tensors).shape == (5, 6)
    assert spread_over_batches(compute, tensors) <= INVARIANCE

    graph = exported(student, compute, tensors)

    assert spread_over_batches(graph, tensors) <= INVARIANCE
    assert (graph(tensors) - compute(tensors)).abs().max() <= PARITY
