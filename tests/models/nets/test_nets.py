"""Networks: shapes, gradients, and parts that are easy to get wrong."""

import pytest
import torch

from models.nets.fusion import build_fusion
from models.nets.network import NetworkSpec
from models.nets.physio import SignalEncoder
from models.nets.pooling import PoolSteps
from models.nets.student import Student
from models.nets.teacher import Teacher
from models.nets.tnet import TNet
from models.nets.video import normalise_frames
from models.spec import FaceSpec, InputSpec, SignalSpec, VoiceSpec

INPUTS = InputSpec(
    window_s=2.0,
    hop_s=1.0,
    face=FaceSpec(frames=5, size_px=48),
    voice=VoiceSpec(mels=20),
    signals={"eda": SignalSpec(channels=("gsr",), rate_hz=10)},
)


def windows(n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "face": torch.randint(0, 256, (n, *INPUTS.shape("face")), dtype=torch.uint8, generator=generator),
        "voice": torch.randn(n, *INPUTS.shape("voice"), generator=generator),
        "eda": torch.randn(n, *INPUTS.shape("eda"), generator=generator),
    }


@pytest.mark.parametrize("fusion", ["transformer", "concat"])
def test_the_teacher_gives_features_joint_representation_and_output(fusion: str) -> None:
    network = NetworkSpec(dim=32, steps=3, fusion=fusion)
    out = Teacher(("face", "voice", "eda"), INPUTS, network, task="pain", levels=5)(windows(4))

    assert {name: tuple(f.shape) for name, f in out.features.items()} == dict.fromkeys(
        ("face", "voice", "eda"), (4, 3, 32)
    )
    assert (tuple(out.z.shape), tuple(out.output.shape)) == ((4, 32), (4, 4))


@pytest.mark.parametrize("fusion", ["transformer", "concat"])
def test_a_gradient_reaches_every_layer_of_the_student(fusion: str) -> None:
    network = NetworkSpec(dim=32, steps=3, fusion=fusion)
    student = Student(("face",), ("voice", "eda"), INPUTS, network, task="valence-arousal", levels=0)

    student(windows(4)).output.square().sum().backward()

    assert [name for name, p in student.named_parameters() if p.grad is None] == []


def test_valence_and_arousal_stay_in_their_range() -> None:
    student = Student(("voice",), ("face",), INPUTS, NetworkSpec(dim=32), task="valence-arousal", levels=0)
    loud = {"voice": 1e4 * windows(3)["voice"]}

    assert student(loud).output.abs().max() <= 1


def test_a_still_face_shows_no_movement() -> None:
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


def test_signals_are_standardised_by_what_was_seen_in_training() -> None:
    encoder = SignalEncoder(INPUTS.signals["eda"], window_s=2.0, dim=32, steps=3)
    signals = 5 + 3 * windows(50)["eda"]
    encoder.standardise(signals)
    other = SignalEncoder(INPUTS.signals["eda"], window_s=2.0, dim=32, steps=3)

    other.load_state_dict(encoder.state_dict())

    assert other.centre.item() == pytest.approx(5, abs=0.3)
    assert other.spread.item() == pytest.approx(3, abs=0.3)


def test_a_tnet_reaches_features_far_outside_zero_to_one() -> None:
    tnet = TNet(("face",), dim=32)
    targets = 40 + 10 * torch.randn(20, 3, 32)
    tnet.standardise(targets)

    made = tnet({"face": torch.randn(6, 3, 32)})

    assert 20 < made.mean() < 60


def test_the_gate_weighs_modalities_of_one_sample_only() -> None:
    fusion = build_fusion("transformer", ("face", "voice"), dim=32, steps=3).eval()
    features = {"face": torch.randn(5, 3, 32), "voice": torch.randn(5, 3, 32)}

    alone = fusion({name: values[2:3] for name, values in features.items()})

    assert torch.allclose(fusion(features)[2:3], alone, atol=1e-6)
