"""ResNet-18 and R3D-18 are torchvision's: names, shapes, and numbers.

`resnet18.txt` and `r3d18.txt` list the names and shapes of torchvision 0.28's state dictionaries. The expected means
were computed with torchvision's networks, from the weights and the pictures that are drawn here.
"""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.nets.encoder_spec import EncoderName, EncoderSpec
from models.nets.encoders import build_encoder
from models.nets.errors import WeightsFileError
from models.nets.r3d18 import R3D18
from models.nets.resnet18 import ResNet18
from models.nets.weights_file import load_weights_file
from models.spec import InputSpec

Shapes = dict[str, tuple[int, ...]]


def listed(name: str) -> Shapes:
    """What torchvision's state dictionary holds."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {line.split()[0]: tuple(int(size) for size in line.split()[1:]) for line in lines}


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of a size at which every layer counts, the same on every machine."""
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        wave = (0.37 * torch.arange(math.prod(shape), dtype=torch.float64) + index).sin().reshape(shape)
        if len(shape) > 1:
            wave = wave * math.sqrt(2 / math.prod(shape[1:]))
        else:
            wave = 1 + 0.3 * wave if name.endswith(("weight", "running_var")) else 0.1 * wave
        state[name] = wave.float()
    return state


def body_of(shapes: Shapes) -> Shapes:
    """Without the classifier, and without the counters that older files lack."""
    return {k: s for k, s in shapes.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}


def pictures(*shape: int) -> Tensor:
    return (0.11 * torch.arange(math.prod(shape), dtype=torch.float64)).sin().reshape(shape).float()


NETS: list[tuple[str, type[nn.Module], int]] = [("resnet18", ResNet18, 11_689_512), ("r3d18", R3D18, 33_371_472)]


@pytest.mark.parametrize(("name", "net", "parameters"), NETS)
def test_names_shapes_and_count_are_torchvisions(name: str, net: type[nn.Module], parameters: int) -> None:
    expected = listed(name)
    made = net()

    assert {k: tuple(v.shape) for k, v in made.state_dict().items()} == {
        k: shape for k, shape in expected.items() if not k.startswith("fc.")
    }
    classifier = math.prod(expected["fc.weight"]) + math.prod(expected["fc.bias"])
    assert sum(p.numel() for p in made.parameters()) + classifier == parameters


def test_resnet18_computes_what_torchvisions_does() -> None:
    net = ResNet18().eval()
    net.load_state_dict(drawn(body_of(listed("resnet18"))), strict=False)

    with torch.no_grad():
        features = net(pictures(2, 3, 40, 48))

    blocks = features.reshape(2, 4, 128).mean(dim=2)
    expected = torch.tensor([[0.43467, 0.42026, 0.41802, 0.43671], [0.58059, 0.56194, 0.55793, 0.58449]])
    assert torch.allclose(blocks, expected, atol=2e-4)


def test_r3d18_computes_what_torchvisions_does() -> None:
    net = R3D18().eval()
    net.load_state_dict(drawn(body_of(listed("r3d18"))), strict=False)

    with torch.no_grad():
        features = net(pictures(2, 3, 5, 32, 32))

    assert features.shape == (2, 1, 512)  # five frames are one eighth, rounded up
    blocks = features.mean(dim=1).reshape(2, 4, 128).mean(dim=2)
    expected = torch.tensor([[1.1881, 1.15081, 1.13897, 1.19861], [1.03813, 1.0053, 0.99662, 1.04775]])
    assert torch.allclose(blocks, expected, atol=5e-4)


@pytest.mark.parametrize(("frames", "kept"), [(1, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_r3d18_keeps_every_eighth_frame(frames: int, kept: int) -> None:
    assert R3D18().eval()(torch.zeros(1, 3, frames, 16, 16)).shape == (1, kept, 512)


@pytest.fixture
def resnet18_file(tmp_path: Path) -> Path:
    """Drawn weights with torchvision's names, the classifier's too."""
    torch.save(drawn(listed("resnet18")), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def test_a_weights_file_loads_as_it_is(resnet18_file: Path) -> None:
    net = ResNet18()

    load_weights_file(net, resnet18_file, made_for="torchvision's resnet18")

    expected = drawn(listed("resnet18"))
    assert all(torch.equal(v, expected[k]) for k, v in net.state_dict().items() if v.is_floating_point())


def test_a_weights_file_from_before_the_counters_loads_too(tmp_path: Path) -> None:
    state = drawn(body_of(listed("resnet18")))
    torch.save(state, tmp_path / "old.pth")
    net = ResNet18()

    load_weights_file(net, tmp_path / "old.pth", made_for="torchvision's resnet18")

    assert torch.equal(net.conv1.weight, state["conv1.weight"])


def test_a_wrong_weights_file_is_named_with_its_key_and_loads_nothing(tmp_path: Path) -> None:
    good = drawn(body_of(listed("resnet18")))
    wrong = {
        "no key 'layer3.0.conv1.weight'": {k: v for k, v in good.items() if k != "layer3.0.conv1.weight"},
        "'layer4.1.bn2.bias' has shape (7,); torchvision's resnet18 has (512,)": good
        | {"layer4.1.bn2.bias": torch.ones(7)},
        "no key 'layer9.weight'": good | {"layer9.weight": torch.ones(7)},
        "no key 'conv1.weight'": {"module." + k: v for k, v in good.items()},
        "is not a dictionary of tensors": {"state_dict": good},
    }
    for number, (message, state) in enumerate(wrong.items()):
        file = tmp_path / f"{number}.pth"
        torch.save(state, file)
        net = ResNet18()
        before = {k: v.clone() for k, v in net.state_dict().items()}

        with pytest.raises(WeightsFileError) as error:
            load_weights_file(net, file, made_for="torchvision's resnet18")

        assert message in str(error.value)
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02cposix\nsystem\n."])
def test_what_is_no_weights_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.pth").write_bytes(content)

    with pytest.raises(WeightsFileError, match=r"notes\.pth is not a file of weights"):
        load_weights_file(ResNet18(), tmp_path / "notes.pth", made_for="torchvision's resnet18")
    with pytest.raises(WeightsFileError, match=r"nowhere\.pth cannot be read"):
        load_weights_file(ResNet18(), tmp_path / "nowhere.pth", made_for="torchvision's resnet18")


def test_a_frozen_backbone_keeps_its_weights_and_what_is_new_learns(inputs: InputSpec, resnet18_file: Path) -> None:
    spec = EncoderSpec(name="resnet18", weights=resnet18_file, frozen=True)
    encoder = build_encoder("face", inputs, spec, dim=32, steps=3).train()

    encoder(torch.zeros(2, *inputs.shape("face"), dtype=torch.uint8)).square().mean().backward()

    learns = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert not {name for name in learns if name.startswith("backbone.")}
    assert {name for name, _ in encoder.named_parameters() if not name.startswith("backbone.")} == learns


def frozen_resnet18(inputs: InputSpec, file: Path) -> nn.Module:
    spec = EncoderSpec(name="resnet18", weights=file, frozen=True)
    return build_encoder("face", inputs, spec, dim=32, steps=3).eval()


def test_the_state_of_a_frozen_backbone_is_its_digest(inputs: InputSpec, resnet18_file: Path) -> None:
    first, second = frozen_resnet18(inputs, resnet18_file), frozen_resnet18(inputs, resnet18_file)
    frames = torch.randint(0, 256, (2, *inputs.shape("face")), dtype=torch.uint8)
    assert not torch.equal(second(frames), first(frames))  # what is new begins at random

    state = first.state_dict()
    second.load_state_dict(state)

    assert {name: values.shape for name, values in state.items() if name.startswith("backbone.")} == {
        "backbone.digest": (32,)
    }
    assert torch.equal(second(frames), first(frames))


def test_a_state_of_other_frozen_weights_is_refused(inputs: InputSpec, resnet18_file: Path) -> None:
    state = nn.ModuleDict({"face": frozen_resnet18(inputs, resnet18_file)}).state_dict()
    weights = torch.load(resnet18_file)
    torch.save(weights | {"conv1.weight": 2 * weights["conv1.weight"]}, resnet18_file)
    other = nn.ModuleDict({"face": frozen_resnet18(inputs, resnet18_file)})

    with pytest.raises(WeightsFileError, match=r"^face\.backbone: the frozen weights are not those"):
        other.load_state_dict(state)


def test_a_state_of_an_earlier_version_brings_its_frozen_weights(inputs: InputSpec, resnet18_file: Path) -> None:
    encoder = frozen_resnet18(inputs, resnet18_file)
    own = {name: values + 1 for name, values in encoder.get_submodule("backbone").net.state_dict().items()}
    state = {name: values for name, values in encoder.state_dict().items() if not name.startswith("backbone.")}

    encoder.load_state_dict(state | {f"backbone.net.{name}": values for name, values in own.items()})

    loaded = encoder.get_submodule("backbone.net").state_dict()
    assert {name: torch.equal(loaded[name], values) for name, values in own.items()} == dict.fromkeys(own, True)


@pytest.mark.parametrize("name", ["resnet18", "r3d18"])
def test_a_gradient_reaches_every_layer_of_a_backbone_that_is_not_frozen(name: EncoderName, inputs: InputSpec) -> None:
    encoder = build_encoder("face", inputs, EncoderSpec(name=name), dim=32, steps=3)

    encoder(torch.zeros(2, *inputs.shape("face"), dtype=torch.uint8)).square().mean().backward()

    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("r3d18", (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    ],
)
def test_frames_reach_the_backbone_in_the_units_of_its_weights(
    name: EncoderName, mean: tuple[float, ...], std: tuple[float, ...], inputs: InputSpec
) -> None:
    encoder = build_encoder("face", inputs, EncoderSpec(name=name), dim=32, steps=3).eval()
    seen: list[Tensor] = []
    backbone = encoder.get_submodule("backbone")
    backbone.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    frames = torch.zeros(1, *inputs.shape("face"), dtype=torch.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = 255, 128, 0

    encoder(frames)

    colour = torch.tensor([(255 / 255 - mean[0]) / std[0], (128 / 255 - mean[1]) / std[1], -mean[2] / std[2]])
    assert torch.allclose(seen[0].flatten(2).mean(dim=2)[0], colour, atol=1e-4)
