"""The passes that gradient sums, Hessian products and Algorithm 1 share: one forward pass, the loss, and backward.

What differs is the mode that the forward pass runs in: which nodes it makes of layers, and how it differentiates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature.arithmetic import differentiable_attention
from oba.curvature.channel_sums import ChannelKey, Sums
from oba.curvature.checks import check_attached, check_transparent
from oba.curvature.layer_mode import LayerMode
from oba.curvature.running_modules import Watch

Loss = Callable[[Any], Tensor]
"""Maps a model's outputs to the scalar L."""


def parameter_derivatives(
    mode: type[LayerMode], model: nn.Module, inputs: Tensor, loss: Loss, names: Iterable[str]
) -> dict[str, Tensor]:
    """Return the derivative with respect to each named parameter."""
    found = _run(mode, model, inputs, loss, names, Sums())
    return {name: torch.zeros_like(model.get_parameter(name)) if d is None else d for name, d in found.items()}


def channel_derivatives(
    mode: type[LayerMode],
    model: nn.Module,
    inputs: Tensor,
    loss: Loss,
    names: Iterable[str],
    wanted: Collection[ChannelKey],
) -> tuple[dict[ChannelKey, Tensor], dict[str, Tensor]]:
    """Return the sums that the layers' nodes gather, and derivatives of what is used in other ways."""
    sums = Sums(wanted)
    found = _run(mode, model, inputs, loss, names, sums)
    return sums.sums, {name: d for name, d in found.items() if d is not None}


def _run(
    mode: type[LayerMode], model: nn.Module, inputs: Tensor, loss: Loss, names: Iterable[str], sums: Sums
) -> dict[str, Tensor | None]:
    """Run all passes; None where nothing flows to a parameter but through sums."""
    check_transparent(model)
    parameters = dict(model.named_parameters())
    moving = {name: parameters[name] for name in names}
    with Watch(model) as watch, differentiable_attention():
        with watch.explain(mode.doing), mode.level():
            layers = mode(moving, sums, watch)
            with layers:
                outputs = model(inputs.clone())
            outputs = layers.read(outputs)
        # Outside of the level, or forward-mode AD would go on through the backward pass.
        value = loss(outputs)
        check_attached(value)
        with watch.explain("the backward pass"):
            found = layers.backward(value) if moving else []
    return dict(zip(moving, found, strict=True))
