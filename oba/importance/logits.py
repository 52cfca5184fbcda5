"""Logits as probabilities of classes, and classes drawn by them."""

from __future__ import annotations

import torch
from torch import Tensor

from oba.errors import ScoreError


def require_logits(logits: object, who: str) -> None:
    """Refuse outputs of which no probabilities of classes can be made.

    Args:
        logits: A model's outputs.
        who: The option and value that ask for logits.

    Raises:
        ScoreError: If they are no tensor of two dimensions.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ScoreError(f"{who} needs logits of shape (examples, classes), not {found}")


def draw_classes(p: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Draw classes k ~ p_n for each example; the CPU draws, and waits for nothing.

    Args:
        p: Probabilities, shape (N, classes).
        samples: How many are drawn for each example.
        generator: Draws them, on the CPU.

    Returns:
        Class numbers, shape (N, samples).
    """
    uniform = torch.rand(len(p), samples, dtype=torch.float64, generator=generator).to(p.device, non_blocking=True)
    upto = p.double().cumsum(1)
    return torch.searchsorted(upto, uniform * upto[:, -1:], right=True).clamp_max(p.shape[1] - 1)
