"""The optimizer of a training, and its state by the names of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from oba import registry
from oba.recipes import TrainConfig


class _EagerSGD(SGD):
    """SGD that cannot be compiled: what makes torch's compilable loads the compiler, for a second in every job."""

    add_param_group = unwrap(SGD.add_param_group)
    zero_grad = unwrap(SGD.zero_grad)
    step = torch.no_grad()(unwrap(SGD.step))


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Return the optimizer that a recipe asks for.

    Args:
        model: The net, on its device.
        config: ``optimizer``, ``lr``, ``momentum``, ``nesterov``, ``beta2``, ``weight_decay``, ``decay``.

    Returns:
        SGD or AdamW over all trainable parameters, in one or two groups.
    """
    groups = _groups(model, config)
    if config.optimizer == "adamw":
        betas = (config.momentum, config.beta2)
        return AdamW(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    return _EagerSGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer remembers, as ``<parameter>/<key>``: momentum, moments, counts of steps.

    Args:
        model: The net.
        optimizer: Its optimizer, whose state consists of tensors.

    Returns:
        The tensors themselves, not copies.
    """
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_state` returned, in each parameter's memory layout.

    Args:
        model: The net.
        optimizer: Its fresh optimizer.
        state: The tensors, on any device.
    """
    parameters = dict(model.named_parameters())
    for path, value in state.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        # Counts of steps stay on the CPU, where torch keeps them.
        room = value.clone() if key == "step" else torch.empty_like(parameter, dtype=value.dtype)
        optimizer.state[parameter][key] = room.copy_(value)


def _groups(model: nn.Module, config: TrainConfig) -> Iterable[Any]:
    """Return the parameters, divided by whether they decay."""
    if "decay" in config.ingredients:
        return registry.entry("ingredient", "decay")(model, config.weight_decay)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
