"""The picture of a signal: its transform, its statistics, and weights made for colours."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.nets.encoder_spec import EncoderSpec
from models.nets.resnet18 import ResNet18
from models.nets.spectrogram import LogPower, SpectrogramEncoder, colourless
from models.spec import SignalSpec

ECG = SignalSpec(channels=("i", "ii"), rate_hz=64)


def test_the_picture_is_the_log_power_of_the_short_time_fourier_transform() -> None:
    signals = torch.randn(2, 3, 320, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(64)
    spectrum = torch.stft(
        signals.flatten(0, 1), n_fft=64, hop_length=4, window=window, center=False, return_complex=True
    )
    expected = (spectrum.abs().square() / window.square().sum()).reshape(2, 3, 33, 65)

    picture = LogPower(samples=320, rate_hz=64)(signals)

    assert picture.shape == (2, 3, 33, 65)
    assert torch.allclose(picture.exp(), expected, rtol=1e-4, atol=1e-5)


def test_white_noise_has_power_one() -> None:
    noise = torch.randn(1, 1, 64_000, generator=torch.Generator().manual_seed(0))

    power = LogPower(samples=64_000, rate_hz=64)(noise).exp()

    assert power[:, :, 1:-1].mean() == pytest.approx(1.0, abs=0.03)


def test_a_silent_signal_has_the_floor_and_not_minus_infinity() -> None:
    assert LogPower(samples=320, rate_hz=64)(torch.zeros(1, 1, 320)) == pytest.approx(-13.8155, abs=1e-3)


def test_the_picture_is_exact_in_a_network_that_trains_in_bfloat16() -> None:
    signals = torch.randn(2, 1, 320, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)
    log_power = LogPower(samples=320, rate_hz=64)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture = log_power(signals)

    assert torch.equal(picture, log_power(signals))


@pytest.mark.parametrize(("rate_hz", "window_s"), [(4, 5.5), (16, 5.5), (512, 5.5), (1000, 0.5), (1, 2.0)])
def test_every_rate_and_window_gives_features(rate_hz: float, window_s: float) -> None:
    spec = SignalSpec(channels=("a",), rate_hz=rate_hz)
    encoder = SpectrogramEncoder(spec, EncoderSpec(name="spectrogram"), window_s=window_s, dim=32, steps=3).eval()

    features = encoder(torch.randn(2, 1, spec.samples(window_s)))

    assert features.shape == (2, 3, 32)
    assert features.isfinite().all()


def test_rows_of_the_training_folds_pictures_are_standardised() -> None:
    torch.manual_seed(0)
    encoder = SpectrogramEncoder(ECG, EncoderSpec(name="spectrogram"), window_s=5.0, dim=32, steps=3).eval()
    signals = 7 + torch.tensor([0.1, 30.0])[:, None] * torch.randn(150, 2, 320).cumsum(dim=2)

    encoder.standardise(signals)

    rows = (encoder.log_power((signals - encoder.centre[:, None]) / encoder.spread[:, None]) - encoder.row_centre) / (
        encoder.row_spread
    )
    assert torch.allclose(rows.mean(dim=(0, 3)), torch.zeros(2, 33), atol=1e-3)
    assert torch.allclose(rows.std(dim=(0, 3)), torch.ones(2, 33), atol=1e-2)


@pytest.mark.parametrize("exponent", [-40, 20])
def test_a_signal_may_be_in_any_unit(exponent: int) -> None:
    plain, scaled = (
        SpectrogramEncoder(ECG, EncoderSpec(name="spectrogram"), window_s=5.0, dim=32, steps=3).eval() for _ in range(2)
    )
    scaled.load_state_dict(plain.state_dict())
    signals = 7 + torch.randn(20, 2, 320, generator=torch.Generator().manual_seed(0)).cumsum(dim=2)

    plain.standardise(signals)
    scaled.standardise(signals * 2.0**exponent)

    assert torch.allclose(scaled(signals * 2.0**exponent), plain(signals), atol=1e-5)


def test_steps_follow_the_signal_in_time() -> None:
    torch.manual_seed(0)
    encoder = SpectrogramEncoder(ECG, EncoderSpec(name="spectrogram"), window_s=10.0, dim=32, steps=5).eval()
    quiet = 0.1 * torch.randn(1, 2, 640)
    burst = quiet.clone()
    burst[:, :, :64] += torch.randn(1, 2, 64)

    moved = (encoder(burst) - encoder(quiet)).abs().amax(dim=2)[0]

    assert moved[0] == moved.max()
    assert moved[0] > 10 * moved[4]


@pytest.mark.parametrize("channels", [1, 2])
def test_weights_for_colours_answer_a_grey_picture_as_before(tmp_path: Path, channels: int) -> None:
    torch.manual_seed(0)
    colours = ResNet18().eval()
    for module in colours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    torch.save(colours.state_dict(), tmp_path / "colours.pth")
    spec = EncoderSpec(name="spectrogram", weights=tmp_path / "colours.pth")
    grey = torch.randn(2, 1, 64, 96)

    net = ResNet18(channels).eval()
    net.load_state_dict(colourless(spec, channels))

    with torch.no_grad():
        expected = colours(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(net(grey.expand(-1, channels, -1, -1)), expected, rtol=1e-3, atol=1e-4)


def test_statistics_travel_with_the_weights() -> None:
    encoder, other = (
        SpectrogramEncoder(ECG, EncoderSpec(name="spectrogram"), window_s=5.0, dim=32, steps=3) for _ in range(2)
    )
    encoder.standardise(5 + torch.randn(10, 2, 320))

    other.load_state_dict(encoder.state_dict())

    assert torch.equal(other.row_centre, encoder.row_centre)
    assert other.centre.mean() == pytest.approx(5, abs=0.1)
