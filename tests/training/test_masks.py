"""A masked weight stays exactly 0 while its net trains, whatever the optimizer and the precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from resuming import Interrupted, stop_after
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from oba.files import read_tensors
from oba.machine import RuntimeConfig
from oba.recipes import TrainConfig
from oba.training.loop import train
from oba.training.records import EpochRecord, TrainOutcome

CONFIG: dict[str, Any] = {"epochs": 3, "batch_size": 16, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}


def random_masks(model: nn.Module) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(4)
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    masks = {name: torch.rand(p.shape, generator=draw) < 0.5 for name, p in weights.items()}
    masks["body.layer1.0.conv1.weight"][:] = False
    return masks


@pytest.fixture
def trained(toy: SimpleNamespace, tmp_path: Path) -> Callable[..., tuple[nn.Module, dict[str, Tensor], TrainOutcome]]:
    def of(
        state: str = "state",
        precision: Any = "fp32",
        on_epoch: Callable[[EpochRecord], None] = lambda _: None,
        **changes: Any,
    ) -> tuple[nn.Module, dict[str, Tensor], TrainOutcome]:
        model = toy.toy_net()
        masks = random_masks(model)
        outcome = train(
            model,
            toy.ToyBundle(),
            TrainConfig(**(CONFIG | changes)),
            seed=3,
            state_dir=tmp_path / state,
            device=torch.device("cpu"),
            runtime=RuntimeConfig(precision=precision),
            on_epoch=on_epoch,
            label="toy",
            masks=masks,
        )
        return model, masks, outcome

    return of


@pytest.mark.parametrize(
    "changes",
    [{}, {"nesterov": True}, {"momentum": 0.0}, {"select": "best"}, {"precision": "bf16"}],
    ids=str,
)
def test_a_masked_weight_is_0_after_every_step_and_the_others_learn(trained, toy, changes):
    steps = []

    def remember(optimizer, *_):
        steps.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])

    hook = register_optimizer_step_post_hook(remember)
    try:
        model, masks, _ = trained(**changes)
    finally:
        hook.remove()
    names = [name for name, _ in model.named_parameters()]
    assert len(steps) == 3 * 4
    for weights in steps:
        for name, weight in zip(names, weights, strict=True):
            assert name not in masks or not weight[~masks[name]].any()
    start = toy.toy_net()
    for name, mask in masks.items():
        moved = model.get_parameter(name) != start.get_parameter(name)
        assert moved[mask].float().mean() > 0.9 or not mask.any()
    assert any(not torch.equal(p, start.get_parameter(n)) for n, p in model.named_parameters() if n not in masks)


def test_momentum_of_masked_weights_is_0_in_the_saved_state(trained, tmp_path):
    _, masks, _ = trained()
    state = read_tensors(tmp_path / "state/epoch-0003.safetensors")
    for name, mask in masks.items():
        for path in (f"weights/{name}", f"optimizer/{name}/momentum_buffer"):
            assert not state[path][~mask].any()
            assert state[path][mask].any() or not mask.any()


@pytest.mark.parametrize("select", ["last", "best"])
def test_an_interrupted_training_of_a_masked_net_ends_with_the_same_bits(trained, select):
    whole, masks, _ = trained(state="whole", select=select)
    with pytest.raises(Interrupted):
        trained(state="cut", on_epoch=stop_after(2), select=select)
    again, _, outcome = trained(state="cut", select=select)
    assert [record.epoch for record in outcome.history] == [1, 2, 3]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not any(again.get_parameter(name)[~mask].any() for name, mask in masks.items())


def test_a_training_without_epochs_masks_the_net(trained):
    model, masks, _ = trained(epochs=0)
    assert not any(model.get_parameter(name)[~mask].any() for name, mask in masks.items())
