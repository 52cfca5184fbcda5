"""What a plain gradient takes: the unit in which scoring is measured."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.importance.state import left_as_found


def plain_gradient_seconds(model: nn.Module, batch: tuple[Tensor, Any], norm: str) -> float:
    """Time one forward and one backward pass with the gradients of all parameters.

    Args:
        model: The model; it is left as it was found.
        batch: Inputs (N, ...) and class numbers (N,).
        norm: ``"eval"`` or ``"train"``.

    Returns:
        Wall-clock seconds of the second of two runs.
    """
    inputs, targets = batch
    parameters = [p for p in model.parameters() if p.requires_grad]
    start = 0.0
    with left_as_found(model, norm):
        for _ in range(2):
            _wait(inputs)
            start = time.perf_counter()
            torch.autograd.grad(F.cross_entropy(model(inputs), targets), parameters, allow_unused=True)
            _wait(inputs)
    return time.perf_counter() - start


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
