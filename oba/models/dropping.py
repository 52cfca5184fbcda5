"""Dropout and stochastic depth, where a net's library has them: what is dropped at random while a net trains.

The layers are those that the library builds for the wanted rates. They have no weights and do nothing in eval mode, so
any net of the same architecture takes them, pruned or not, and is stored without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from oba.errors import ModelError
from oba.models.build import family_module, prepared
from oba.models.names import LIBRARIES
from oba.recipes import TrainConfig

_RATE = "drop_rate"
"""Where timm's nets keep the rate of a dropout that they apply by function."""
_DEPTH = ("DropPath", "StochasticDepth")
"""Names of the classes of timm and torchvision that skip blocks."""


def wanted_rates(config: TrainConfig) -> dict[str, float]:
    """Return the rates that a recipe asks for: ``dropout`` and ``stochastic_depth``, where they are given."""
    given = {"dropout": config.dropout, "stochastic_depth": config.stochastic_depth}
    return {kind: rate for kind, rate in given.items() if rate is not None}


def set_dropping(
    model: nn.Module, name: str, *, num_classes: int, input_size: tuple[int, int, int], rates: dict[str, float]
) -> None:
    """Give a net the layers that drop at random while it trains; torch's global random state is left as found.

    Args:
        model: A net of this name, or what pruning left of it; changed in place.
        name: The net's name.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        rates: ``dropout`` and ``stochastic_depth``, or one of them; the other stays as it is.

    Raises:
        ModelError: If the net has nothing that is dropped so.
    """
    with torch.random.fork_rng(devices=[]):
        like = _built(name, num_classes, input_size, rates)
    for kind, rate in rates.items():
        found = _layers(like, kind)
        if rate and not any(_rate_of(layer) for layer in found.values()):
            raise ModelError(_refusal(name, [kind]))
        for path, layer in found.items():
            parent, _, leaf = path.rpartition(".")
            setattr(
                model.get_submodule(parent),
                leaf,
                layer.train(model.training) if isinstance(layer, nn.Module) else layer,
            )


def _built(name: str, num_classes: int, input_size: tuple[int, int, int], rates: dict[str, float]) -> nn.Module:
    """Build the net with these rates, or refuse."""
    if name.partition("/")[0] not in LIBRARIES:
        raise ModelError(_refusal(name, rates))
    build = family_module(name).build
    try:
        return prepared(
            name, lambda: build(name, num_classes=num_classes, input_size=input_size, **rates), num_classes, input_size
        )
    except ModelError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ModelError(_refusal(name, rates)) from error


def _refusal(name: str, kinds: Iterable[str]) -> str:
    return f"{name}: takes no rate of {' or '.join(kinds)}; allowed: nets of timm or torchvision that have it"


def _layers(model: nn.Module, kind: str) -> dict[str, Any]:
    """Return what drops, by the path of the attribute that holds it: layers, and rates of dropout by function."""
    if kind == "stochastic_depth":
        return {path: module for path, module in model.named_modules() if type(module).__name__ in _DEPTH}
    layers: dict[str, Any] = {path: m for path, m in model.named_modules() if isinstance(m, _DropoutNd)}
    for path, module in model.named_modules():
        if isinstance(vars(module).get(_RATE), float):
            layers[f"{path}.{_RATE}".lstrip(".")] = vars(module)[_RATE]
    return layers


def _rate_of(layer: Any) -> float:
    """Return how often a layer drops."""
    return layer if isinstance(layer, float) else float(getattr(layer, "p", getattr(layer, "drop_prob", 0.0)) or 0.0)
