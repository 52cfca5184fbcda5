"""Inputs, outputs and derivatives of a layer by brute force: one example at a time, no hook that is not a plain one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SingleLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """What one example shows of one layer: a row for each call and position.

    ``inputs`` are (groups, rows, columns), with a last column of ones where the layer has a bias; ``outputs`` and
    ``gradients`` are (groups, rows, outputs of a group).
    """

    inputs: Tensor
    outputs: Tensor
    gradients: Tensor


def seen(model: nn.Module, name: str, x: Tensor, y: Tensor, loss: SingleLoss) -> list[Seen]:
    """Return what each example shows of a Conv2d or Linear, in eval mode."""
    return [_seen(model, name, x[i : i + 1], y[i : i + 1], loss) for i in range(len(x))]


def _seen(model: nn.Module, name: str, x: Tensor, y: Tensor, loss: SingleLoss) -> Seen:
    layer = model.get_submodule(name)
    calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def add_nothing(_layer: nn.Module, args: tuple[Tensor, ...], z: Tensor) -> Tensor:
        nothing = torch.zeros_like(z, requires_grad=True)
        calls.append((args[0].detach().clone(), z.detach().clone(), nothing))
        return z + nothing

    hook = layer.register_forward_hook(add_nothing)
    value = loss(model(x.clone()), y)
    hook.remove()
    gradients = torch.autograd.grad(
        value, [nothing for _, _, nothing in calls], materialize_grads=True, allow_unused=True
    )
    parts = [(*_rows(layer, a, z), _rows(layer, a, g)[1]) for (a, z, _), g in zip(calls, gradients, strict=True)]
    return Seen(*(torch.cat(kind, 1) for kind in zip(*parts, strict=True)))


def _rows(layer: nn.Module, a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if isinstance(layer, nn.Linear):
        a, z = a.reshape(1, -1, a.shape[-1]), z.reshape(1, -1, z.shape[-1])
    else:
        assert isinstance(layer.padding, tuple)
        a = torch.stack([
            F.unfold(part, layer.kernel_size, layer.dilation, layer.padding, layer.stride)[0].T
            for part in a.chunk(layer.groups, 1)
        ])
        z = torch.stack([part[0].flatten(1).T for part in z.chunk(layer.groups, 1)])
    if layer.bias is not None:
        a = torch.cat([a, torch.ones_like(a[..., :1])], -1)
    return a, z


def factors(examples: list[Seen]) -> tuple[Tensor, Tensor]:
    """Return A and G of each group, as their definitions say."""
    rows = torch.cat([e.inputs for e in examples], 1)
    products = torch.stack([torch.einsum("gro,grp->gop", e.gradients, e.gradients) for e in examples])
    return torch.einsum("grc,grd->gcd", rows, rows) / rows.shape[1], products.mean(0)


def gradients(examples: list[Seen]) -> Tensor:
    """Return each example's derivative of Θ, (examples, groups, outputs of a group, columns)."""
    return torch.stack([torch.einsum("gro,grc->goc", e.gradients, e.inputs) for e in examples])
