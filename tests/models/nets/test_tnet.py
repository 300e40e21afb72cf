"""T-Nets: what they can reach, what they know of their own errors, and what that knowledge must not change."""

import math

import pytest
import torch
from torch import Tensor, nn

from models.nets.network import NetworkSpec, TNetName
from models.nets.student import Student
from models.nets.tnet import TNet
from models.spec import InputSpec, SignalSpec

BODIES: tuple[TNetName, ...] = ("bottleneck", "narrow", "wide", "transformer")


def features(n: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, 3, 32, generator=generator) for name in ("face", "voice")}


@pytest.mark.parametrize("body", BODIES)
def test_a_tnet_reaches_features_far_outside_zero_to_one(body: TNetName) -> None:
    torch.manual_seed(0)
    tnet = TNet(("face", "voice"), dim=32, steps=3, body=body)
    tnet.standardise(40 + 10 * torch.randn(20, 3, 32))

    made = tnet(features(6))

    assert made.shape == (6, 3, 32)
    assert 20 < made.mean() < 60


@pytest.mark.parametrize("body", BODIES)
def test_the_prediction_is_the_standardised_one_in_the_targets_units(body: TNetName) -> None:
    torch.manual_seed(0)
    tnet = TNet(("face", "voice"), dim=32, steps=3, body=body).eval()
    tnet.standardise(40 + 10 * torch.randn(20, 3, 32))
    x = features(6)

    hallucination = tnet.predict(x)

    assert torch.allclose(hallucination.features, tnet.standardised(x) * tnet.spread + tnet.centre)
    assert torch.equal(hallucination.features, tnet(x))


@pytest.mark.parametrize(
    ("body", "papers"), [("narrow", [256, 128, 256, 512]), ("wide", [2048, 1024, 512, 256, 512, 1024, 2048, 512])]
)
def test_the_papers_have_their_widths_at_their_dimension(body: TNetName, papers: list[int]) -> None:
    tnet = TNet(("face",), dim=512, steps=1, body=body)

    widths = [layer.out_features for layer in tnet.modules() if isinstance(layer, nn.Linear)]

    assert widths[: len(papers)] == papers


def test_the_transformer_sees_the_other_steps() -> None:
    torch.manual_seed(0)
    tnet = TNet(("face", "voice"), dim=32, steps=3, body="transformer").eval()
    x = features(2)
    changed = {name: values.clone() for name, values in x.items()}
    changed["face"][:, 0] *= -1

    assert (tnet(changed)[:, 2] - tnet(x)[:, 2]).abs().max() > 1e-4


@pytest.mark.parametrize("body", BODIES)
def test_a_new_tnet_expects_to_be_as_bad_as_the_training_mean(body: TNetName) -> None:
    assert torch.equal(
        TNet(("face", "voice"), dim=32, steps=3, body=body).predict(features(4)).log_variance, torch.zeros(4)
    )


@pytest.mark.parametrize("body", BODIES)
def test_learning_the_uncertainty_changes_nothing_of_the_prediction(body: TNetName) -> None:
    tnet = TNet(("face", "voice"), dim=32, steps=3, body=body)
    for parameter in tnet.doubt.parameters():
        nn.init.normal_(parameter)

    tnet.predict(features(4)).log_variance.sum().backward()  # type: ignore[no-untyped-call]

    assert {name.split(".")[0] for name, p in tnet.named_parameters() if p.grad is not None} == {"doubt"}
    assert all(p.grad is not None for p in tnet.doubt.parameters())


def test_the_uncertainty_stays_in_bounds() -> None:
    tnet = TNet(("face", "voice"), dim=32, steps=3)
    for parameter in tnet.doubt.parameters():
        nn.init.constant_(parameter, 1e6)

    assert torch.equal(tnet.predict(features(2)).log_variance, torch.full((2,), 10.0))


def test_by_the_gaussian_likelihood_the_uncertainty_becomes_the_mean_squared_error() -> None:
    torch.manual_seed(0)
    tnet = TNet(("face", "voice"), dim=32, steps=3)
    x = features(64)
    error = torch.where(torch.arange(64) % 2 == 0, 0.25, 4.0)  # of calm windows and of loud ones
    loud = torch.where(torch.arange(64) % 2 == 0, 0.2, 3.0)[:, None, None]
    x = {name: values * loud for name, values in x.items()}
    optimiser = torch.optim.Adam(tnet.doubt.parameters(), lr=0.05)

    for _ in range(60):
        log_variance = tnet.predict(x).log_variance
        optimiser.zero_grad()
        (0.5 * (log_variance + error / log_variance.exp())).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    learnt = tnet.predict(x).log_variance.detach()
    assert learnt[0::2].mean() == pytest.approx(math.log(0.25), abs=0.2)
    assert learnt[1::2].mean() == pytest.approx(math.log(4.0), abs=0.2)


def test_the_same_seed_gives_the_weights_that_it_gave_without_uncertainty() -> None:
    torch.manual_seed(0)
    expected = [nn.Linear(2 * 2 * 32, 32), nn.Linear(32, 16), nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(7, 5)]
    torch.manual_seed(0)
    tnet = TNet(("face", "voice"), dim=32, steps=3)
    after = nn.Linear(7, 5)

    layers = [m for name, m in tnet.named_modules() if isinstance(m, nn.Linear) and not name.startswith("doubt")]
    assert len(layers) == 4
    for made, wanted in zip([*layers, after], expected, strict=True):
        assert torch.equal(made.weight, wanted.weight)
        assert torch.equal(made.bias, wanted.bias)


def test_a_student_says_how_sure_it_is_of_each_hallucination() -> None:
    inputs = InputSpec(
        window_s=2,
        hop_s=1,
        signals={name: SignalSpec(channels=("a",), rate_hz=10) for name in ("eda", "ecg", "emg")},
    )
    student = Student(("eda",), ("ecg", "emg"), inputs, NetworkSpec(dim=32), task="regression", outputs=3)

    out = student({"eda": torch.randn(4, *inputs.shape("eda"))})

    assert out.output.shape == (4, 3)
    assert {name: tuple(values.shape) for name, values in out.log_variance.items()} == {"ecg": (4,), "emg": (4,)}
