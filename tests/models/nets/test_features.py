"""Features that were computed elsewhere: what is missing, what never varies, and what is out of all bounds."""

import pytest
import torch
from torch import nan

from models.nets.features import FeatureEncoder
from models.spec import FeatureSpec

VECTORS, SEQUENCES = FeatureSpec(shape=(3,)), FeatureSpec(shape=(4, 3))


@pytest.fixture
def encoder() -> FeatureEncoder:
    """Of vectors, standardised on three windows."""
    torch.manual_seed(0)
    encoder = FeatureEncoder(VECTORS, dim=16, steps=2).eval()
    encoder.standardise(torch.tensor([[1.0, 5.0, nan], [3.0, 5.0, nan], [nan, 5.0, nan]]))
    return encoder


def test_statistics_are_those_of_what_is_there(encoder: FeatureEncoder) -> None:
    # the second never varies, the third is never there
    assert torch.equal(encoder.centre, torch.tensor([2.0, 5.0, 0.0]))
    assert torch.equal(encoder.spread, torch.tensor([1.0, 1.0, 1.0]))


def test_statistics_of_sequences_are_taken_over_windows_and_steps() -> None:
    encoder = FeatureEncoder(SEQUENCES, dim=16, steps=2)
    values = torch.full((2, 4, 3), nan)
    values[0, :, 0] = torch.tensor([0.0, 4.0, 0.0, 4.0])
    values[1, 0, 0] = 2.0

    encoder.standardise(values)

    assert encoder.centre[0].item() == 2.0
    assert encoder.spread[0].item() == pytest.approx((16 / 5) ** 0.5)


@pytest.mark.parametrize("exponent", [-120, -30, 0, 90])
def test_a_feature_in_any_unit_is_scaled_and_a_constant_one_keeps_its_unit(exponent: int) -> None:
    values = torch.tensor([[1.0, 0.1, 4000.0], [3.0, 0.1, 4000.5], [5.0, 0.1, 4001.0]])
    plain, scaled = (FeatureEncoder(VECTORS, dim=16, steps=2).eval() for _ in range(2))
    scaled.load_state_dict(plain.state_dict())

    plain.standardise(values)
    scaled.standardise(values * 2.0**exponent)

    unit = torch.tensor([2.0**exponent, 1.0, 2.0**exponent])
    assert plain.spread.tolist() == pytest.approx([(8 / 3) ** 0.5, 1.0, (0.5 / 3) ** 0.5])
    assert torch.equal(scaled.spread, plain.spread * unit)
    assert torch.equal(scaled(values * 2.0**exponent), plain(values))


def test_what_is_missing_counts_as_the_centre(encoder: FeatureEncoder) -> None:
    missing = encoder(torch.tensor([[nan, 5.5, 1.0]]))

    assert torch.equal(missing, encoder(torch.tensor([[2.0, 5.5, 1.0]])))
    assert missing.isfinite().all()


@pytest.mark.parametrize("huge", [1e9, torch.inf])
def test_a_value_out_of_all_bounds_counts_as_ten_spreads(encoder: FeatureEncoder, huge: float) -> None:
    assert torch.equal(encoder(torch.tensor([[huge, 5.0, 0.0]])), encoder(torch.tensor([[12.0, 5.0, 0.0]])))
    assert torch.equal(encoder(torch.tensor([[-huge, 5.0, 0.0]])), encoder(torch.tensor([[-8.0, 5.0, 0.0]])))


def test_statistics_travel_with_the_weights(encoder: FeatureEncoder) -> None:
    other = FeatureEncoder(VECTORS, dim=16, steps=2)

    other.load_state_dict(encoder.state_dict())

    assert torch.equal(other.centre, encoder.centre)


def test_a_vector_says_the_same_at_every_step(encoder: FeatureEncoder) -> None:
    out = encoder(torch.randn(5, 3))

    assert out.shape == (5, 2, 16)
    assert torch.equal(out[:, 0], out[:, 1])


def test_a_sequence_keeps_its_order() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(FeatureSpec(shape=(8, 3)), dim=16, steps=2).eval()
    early, late = torch.zeros(2, 1, 8, 3)
    early[:, 0] = 3.0
    late[:, 7] = 3.0
    nothing = encoder(torch.zeros(1, 8, 3))

    moved_by_early = (encoder(early) - nothing).abs().amax(dim=2)[0]
    moved_by_late = (encoder(late) - nothing).abs().amax(dim=2)[0]

    assert (moved_by_early[0] > 1e-2, moved_by_early[1] < 1e-6) == (True, True)
    assert (moved_by_late[0] < 1e-6, moved_by_late[1] > 1e-2) == (True, True)


@pytest.mark.parametrize("spec", [VECTORS, SEQUENCES])
def test_a_gradient_reaches_every_layer_past_what_is_missing(spec: FeatureSpec) -> None:
    encoder = FeatureEncoder(spec, dim=16, steps=2)

    encoder(torch.full((2, *spec.shape), nan)).square().mean().backward()

    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
