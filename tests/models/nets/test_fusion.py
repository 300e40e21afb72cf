"""Fusions: the papers' equations, and who sees whom."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.nets.fusion import build_fusion
from models.nets.fusion.jca import JointAttention, JointCrossAttentionFusion
from models.nets.fusion.lfan import LeaderFollowerFusion
from models.nets.network import FusionName

NAMES = ("face", "voice", "eda")
FUSIONS: tuple[FusionName, ...] = ("transformer", "concat", "jca", "lfan")


def features(names: tuple[str, ...], n: int = 4, steps: int = 3, dim: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(n, steps, dim, generator=generator) for name in names}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_gradient_reaches_every_parameter(fusion: FusionName, count: int) -> None:
    torch.manual_seed(0)
    net = build_fusion(fusion, NAMES[:count], dim=32, steps=3)

    z = net(features(NAMES[:count]))
    z.square().sum().backward()

    assert z.shape == (4, 32)
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    # weights over one modality alone are 1, whatever the gate says
    silent = {"gate.weight", "gate.bias"} if count == 1 else {"gate.bias"}
    assert {name for name, p in net.named_parameters() if p.grad is not None and not p.grad.any()} <= silent


def test_joint_attention_is_the_papers_three_equations() -> None:
    rng = np.random.default_rng(0)
    steps, dim, joint_dim, hidden = 3, 4, 8, 5
    x, other = rng.normal(size=(steps, dim)), rng.normal(size=(steps, dim))
    joint = np.concatenate([x, other], axis=1)
    w_joint, w_x = rng.normal(size=(steps, steps)), rng.normal(size=(hidden, steps))
    w_c, w_h = rng.normal(size=(hidden, joint_dim)), rng.normal(size=(steps, hidden))
    c = np.tanh(x.T @ w_joint @ joint / np.sqrt(joint_dim))
    h = np.maximum(0, w_x @ x + w_c @ c.T)
    expected = w_h @ h + x

    net = JointAttention(joint_dim, steps, hidden)
    for layer, weight in zip(
        (net.w_joint, net.w_modality, net.w_correlation, net.w_hidden), (w_joint, w_x, w_c, w_h), strict=True
    ):
        layer.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
    attended = net(*(torch.tensor(values, dtype=torch.float32)[None] for values in (x, joint)))

    np.testing.assert_allclose(attended[0].detach().numpy(), expected, atol=1e-5)


def test_joint_attention_lets_each_modality_see_the_others() -> None:
    torch.manual_seed(0)
    net = JointCrossAttentionFusion(("face", "voice"), dim=32, steps=3).eval()
    x = features(("face", "voice"))
    heard: dict[str, Tensor] = {}
    net.attention["face"].register_forward_hook(lambda _module, _args, output: heard.update(out=output))

    net(x)
    before = heard["out"]
    net(x | {"voice": -x["voice"]})

    assert (heard["out"] - before).abs().max() > 1e-3


def test_leader_and_followers_are_the_papers_co_attention_at_each_step() -> None:
    torch.manual_seed(0)
    dim, width, heads, steps = 4, 6, 2, 2
    net = LeaderFollowerFusion(("face", "voice"), dim=dim, heads=heads, width=width).double().eval()
    x = {name: values.double() for name, values in features(("face", "voice"), n=1, steps=steps, dim=dim).items()}

    z = net(x)

    rows = []
    for step in range(steps):
        q, k, v = (np.zeros((2, heads, width // heads)) for _ in range(3))
        for m, name in enumerate(("face", "voice")):
            projected = net.query_key_value[name](x[name][0, step]).detach().numpy().reshape(3, heads, -1)
            q[m], k[m], v[m] = projected
        mixed = np.zeros_like(v)
        for head in range(heads):
            scores = np.exp(q[:, head] @ k[:, head].T / np.sqrt(width / heads))
            mixed[:, head] = scores / scores.sum(axis=1, keepdims=True) @ v[:, head] + v[:, head]
        followers = net.norm(net.out(torch.from_numpy(mixed.reshape(-1))))
        rows.append(net.mix(torch.cat([x["face"][0, step], followers])))
    np.testing.assert_allclose(z[0].detach().numpy(), torch.stack(rows).mean(dim=0).detach().numpy(), atol=1e-12)


def test_the_first_modality_leads() -> None:
    torch.manual_seed(0)
    net = LeaderFollowerFusion(NAMES, dim=32).eval()
    with torch.no_grad():
        net.out.weight.zero_()  # the followers fall silent

    x = features(NAMES)
    z = net(x)

    assert torch.equal(net(x | {"voice": -x["voice"], "eda": -x["eda"]}), z)
    assert (net(x | {"face": -x["face"]}) - z).abs().max() > 1e-3
