from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oba.models import build_model
from oba.recipes import TrainConfig
from oba.training.device import seeded
from oba.training.optimizers import make_optimizer, optimizer_state, restore_optimizer


def net() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    model(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizer.step()


def adamw(weight: Tensor, gradients: list[Tensor], lr: float, beta1: float, beta2: float, decay: float) -> Tensor:
    """Algorithm 2 of Loshchilov and Hutter (2019)."""
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients, start=1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        unbiased = first / (1 - beta1**t), second / (1 - beta2**t)
        weight = weight - lr * (unbiased[0] / (unbiased[1].sqrt() + 1e-8) + decay * weight)
    return weight


def test_adamw_is_the_published_algorithm() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    model = nn.Module()
    model.register_parameter("weight", weight)
    config = TrainConfig(epochs=1, optimizer="adamw", lr=0.1, momentum=0.8, beta2=0.95, weight_decay=0.2)
    optimizer = make_optimizer(model, config)
    gradients = [torch.tensor(g, dtype=torch.float64) for g in ([0.5, -1.0, 2.0], [0.1, 0.3, -0.7], [1.0, 1.0, 1.0])]
    start = weight.detach().clone()
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), adamw(start, gradients, 0.1, 0.8, 0.95, 0.2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.0}, {"nesterov": True, "weight_decay": 0.1}], ids=str)
def test_sgd_gives_the_bits_of_torch(settings: dict[str, Any]) -> None:
    config = TrainConfig(epochs=1, lr=0.3, **settings)
    ours, theirs = net(), net()
    used = {name: getattr(config, name) for name in ("lr", "momentum", "nesterov", "weight_decay")}
    pairs = (ours, make_optimizer(ours, config)), (theirs, torch.optim.SGD(theirs.parameters(), **used))
    for seed in range(4):
        for model, optimizer in pairs:
            take_step(model, optimizer, seed)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own.is_leaf
        assert own.requires_grad
    states = [optimizer_state(model, optimizer) for model, optimizer in pairs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_norms_and_biases_decay_only_if_all_do(optimizer: Any) -> None:
    def decays(decay: Any) -> dict[str, float]:
        model = net()
        made = make_optimizer(model, TrainConfig(epochs=1, optimizer=optimizer, weight_decay=0.1, decay=decay))
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        return {names[id(p)]: group["weight_decay"] for group in made.param_groups for p in group["params"]}

    assert set(decays("all").values()) == {0.1}
    expected = {name: 0.1 if name in {"0.weight", "2.weight"} else 0.0 for name, _ in net().named_parameters()}
    assert decays("matrices") == expected


def test_what_a_model_exempts_does_not_decay() -> None:
    model = build_model("timm/test_vit", num_classes=2, input_size=(3, 32, 32))
    exempt = model.no_weight_decay()  # pyright: ignore[reportCallIssue]
    config = TrainConfig(epochs=1, optimizer="adamw", weight_decay=0.1, decay="matrices")
    made = make_optimizer(model, config)
    decaying = {id(p) for group in made.param_groups if group["weight_decay"] for p in group["params"]}
    named = {name: id(p) in decaying for name, p in model.named_parameters()}
    assert {"pos_embed", "cls_token"} <= {name for name in exempt if not named.get(name, False)}
    assert named["blocks.0.attn.proj.weight"]


def test_frozen_parameters_are_left_out() -> None:
    for decay in ("all", "matrices"):
        model = net()
        model.get_parameter("0.weight").requires_grad_(False)
        made = make_optimizer(model, TrainConfig(epochs=1, decay=decay))
        assert sum(len(group["params"]) for group in made.param_groups) == 5


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"optimizer": "adamw"}, ["step", "exp_avg", "exp_avg_sq"]),
        ({"optimizer": "sgd"}, ["momentum_buffer"]),
        ({"optimizer": "sgd", "momentum": 0.0}, []),
    ],
    ids=str,
)
def test_a_state_goes_on_with_the_same_bits(settings: dict[str, Any], keys: list[str]) -> None:
    config = TrainConfig(epochs=1, lr=0.05, **settings)
    whole, part, again = net(), net(), net()
    optimizers = SimpleNamespace(whole=make_optimizer(whole, config), part=make_optimizer(part, config))
    for seed in (1, 2, 3):
        take_step(whole, optimizers.whole, seed)
    for seed in (1, 2):
        take_step(part, optimizers.part, seed)
    state = {path: tensor.clone() for path, tensor in optimizer_state(part, optimizers.part).items()}
    assert state.keys() == {f"{name}/{key}" for name, _ in part.named_parameters() for key in keys}
    again.load_state_dict(part.state_dict())
    resumed = make_optimizer(again, config)
    restore_optimizer(again, resumed, state)
    take_step(again, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_restored_state_is_laid_out_like_its_parameter() -> None:
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = make_optimizer(model, TrainConfig(epochs=1))
    restore_optimizer(model, optimizer, {"weight/momentum_buffer": torch.randn(4, 4, 3, 3)})
    buffer = optimizer.state[model.weight]["momentum_buffer"]
    assert buffer.is_contiguous(memory_format=torch.channels_last)
    assert not buffer.is_contiguous()
