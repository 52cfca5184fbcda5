"""A forward pass on dual tensors of forward-mode AD, in which parameters move in their own direction."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from oba.curvature.layer_mode import LayerMode


@contextmanager
def dual_level() -> Iterator[None]:
    """Enter a level of forward-mode AD; all tangents are gone when it ends."""
    with warnings.catch_warnings():
        # The first dual tensor makes PyTorch compile its forward formulas with the torch.jit.script that it deprecates.
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))
    with forward_ad.dual_level():
        yield


class DualMode(LayerMode):
    """Give a forward pass parameters whose tangents are their own values."""

    doing = "the forward pass with tangents"

    @staticmethod
    def level() -> AbstractContextManager[None]:
        """Return the level of forward-mode AD."""
        return dual_level()

    def stand_in(self, leaf: Tensor) -> Tensor:
        """Return the leaf with its own value as tangent."""
        return forward_ad.make_dual(leaf, leaf.detach())

    def plain(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run any other operation; what no gradient flows through is a constant, and has no tangent either."""
        if torch.is_grad_enabled():
            return func(*args, **kwargs)
        with forward_ad._set_fwd_grad_enabled(False):
            return func(*args, **kwargs)
