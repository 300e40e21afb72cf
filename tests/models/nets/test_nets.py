"""Networks: shapes, gradients, and parts that are easy to get wrong."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.nets.network import FusionName, NetworkSpec, TNetName
from models.nets.physio import SignalEncoder
from models.nets.pooling import PoolSteps
from models.nets.student import Student
from models.nets.teacher import Teacher
from models.nets.video import normalise_frames
from models.spec import InputSpec

Windows = Callable[[int], dict[str, Tensor]]

FUSIONS: tuple[FusionName, ...] = ("transformer", "concat", "jca", "lfan")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_teacher_gives_features_joint_representation_and_output(
    fusion: FusionName, inputs: InputSpec, windows: Windows
) -> None:
    network = NetworkSpec(dim=32, steps=3, fusion=fusion)
    names = ("face", "voice", "eda", "text")

    out = Teacher(names, inputs, network, task="pain", outputs=4)(windows(5))

    assert {name: tuple(f.shape) for name, f in out.features.items()} == dict.fromkeys(names, (5, 3, 32))
    assert (tuple(out.z.shape), tuple(out.output.shape)) == ((5, 32), (5, 4))
    assert out.log_variance == {}


@pytest.mark.parametrize("tnet", ["bottleneck", "narrow", "wide", "transformer"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_gradient_reaches_every_layer_of_the_student(
    fusion: FusionName, tnet: TNetName, inputs: InputSpec, windows: Windows
) -> None:
    network = NetworkSpec(dim=32, steps=3, fusion=fusion, tnet=tnet)
    student = Student(("face", "gaze"), ("voice", "eda"), inputs, network, task="valence-arousal", outputs=2)

    out = student(windows(4))
    (out.output.square().sum() + sum(values.sum() for values in out.log_variance.values())).backward()

    assert [name for name, p in student.named_parameters() if p.grad is None] == []


def test_valence_and_arousal_stay_in_their_range(inputs: InputSpec, windows: Windows) -> None:
    student = Student(("voice",), ("face",), inputs, NetworkSpec(dim=32), task="valence-arousal", outputs=2)
    loud = {"voice": 1e4 * windows(3)["voice"]}

    assert student(loud).output.abs().max() <= 1


def test_a_still_face_shows_no_movement(windows: Windows) -> None:
    still = windows(2)["face"][:, :1].expand(-1, 5, -1, -1, -1)

    normalised = normalise_frames(still)

    assert normalised[:, :, 3:].abs().max() < 1e-5
    assert normalise_frames(windows(2)["face"])[:, :, 3:].abs().max() > 1
    assert -1 <= normalised[:, :, :3].min() < normalised[:, :, :3].max() <= 1


@pytest.mark.parametrize(("length", "steps"), [(10, 5), (7, 3), (3, 5), (1, 4)])
def test_pooling_keeps_the_mean_of_a_constant_and_the_order_of_a_ramp(length: int, steps: int) -> None:
    ramp = torch.arange(float(length))[None, :, None]

    pooled = PoolSteps(length, steps)(torch.cat([torch.ones_like(ramp), ramp], dim=2))

    assert torch.allclose(pooled[0, :, 0], torch.ones(steps))
    assert (pooled[0, 1:, 1] >= pooled[0, :-1, 1] - 1e-6).all()


def test_signals_are_standardised_by_what_was_seen_in_training(inputs: InputSpec, windows: Windows) -> None:
    encoder = SignalEncoder(inputs.signals["eda"], window_s=2.0, dim=32, steps=3)
    signals = 5 + 3 * windows(50)["eda"]
    encoder.standardise(signals)
    other = SignalEncoder(inputs.signals["eda"], window_s=2.0, dim=32, steps=3)

    other.load_state_dict(encoder.state_dict())

    assert other.centre.item() == pytest.approx(5, abs=0.3)
    assert other.spread.item() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("exponent", [-40, 0, 20])
def test_a_signal_may_be_in_any_unit(inputs: InputSpec, windows: Windows, exponent: int) -> None:
    plain, scaled = (SignalEncoder(inputs.signals["eda"], window_s=2.0, dim=32, steps=3) for _ in range(2))
    scaled.load_state_dict(plain.state_dict())
    signals = 5 + 3 * windows(20)["eda"]

    plain.standardise(signals)
    scaled.standardise(signals * 2.0**exponent)

    assert torch.allclose(scaled(signals * 2.0**exponent), plain(signals), atol=1e-5)


def test_a_signal_that_does_not_vary_keeps_its_unit(inputs: InputSpec, windows: Windows) -> None:
    encoder = SignalEncoder(inputs.signals["eda"], window_s=2.0, dim=32, steps=3)

    encoder.standardise(torch.full_like(windows(20)["eda"], 0.1))

    assert (encoder.spread.item(), encoder.course_spread.item()) == (1.0, 1.0)
