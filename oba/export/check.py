"""Whether an exported net computes what the net does."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

import torch
from torch import Tensor

from oba.errors import ExportError
from oba.export.graph import Run
from oba.models.stored import ModelCard

TOLERANCE = 1e-4
"""Largest difference between an exported net's logits and the net's, divided by the largest logit.

Two right ways of computing a net in float32 differ by their order of summation and by what is fused. A sum of n
terms is off by about √n · 6e-8 of its size: 4e-6 for the widest convolutions (n = 4608), more over many layers; found
are 1e-7 to 1e-5. Real faults are larger: a GELU of the other kind or another epsilon of a norm changes logits by more
than 1e-3.
"""
BATCHES = (1, 2, 5)
"""Sizes of the batches that are compared."""


def check_outputs(run: Run, reference: Run, card: ModelCard, *, inside: bool) -> dict[str, float]:
    """Compare an exported net with the net on random images.

    Args:
        run: The exported net.
        reference: The net, in eval mode, which takes normalised images.
        card: The size of the images, and how they are normalised.
        inside: Whether the exported net normalises the images itself.

    Returns:
        The difference by the batch's size, as :data:`TOLERANCE` is meant.

    Raises:
        ExportError: If outputs have another shape, are not finite, or differ by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for size in BATCHES:
        images = torch.rand(size, *card.input_size, generator=generator)
        normalized = _normalized(images, card.mean, card.std) if card.mean else 2 * images - 1
        with torch.no_grad():
            expected = reference(normalized)
            try:
                outputs = run(images if inside else normalized)
            except Exception as error:  # whatever a runtime raises
                reason = shorten(str(error), 300, placeholder=" …")
                raise ExportError(f"the exported net does not run on a batch of {size} ({reason})") from error
        found[str(size)] = _difference(outputs, expected, size)
    return found


def _normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise as a definition says, in double precision."""
    mean_, std_ = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return ((images.double() - mean_) / std_).float()


def _difference(outputs: Tensor, expected: Tensor, size: int) -> float:
    """Return the relative difference, or refuse it."""
    if not expected.isfinite().all():
        raise ExportError("the net's own outputs on random images are not finite; check its weights and statistics")
    if outputs.shape != expected.shape:
        raise ExportError(
            f"the exported net gives outputs of shape {tuple(outputs.shape)} for a batch of {size}, "
            f"the net {tuple(expected.shape)}"
        )
    scale = expected.abs().max().item()
    difference = (outputs - expected).abs().max().item()
    if not difference <= TOLERANCE * scale:
        raise ExportError(
            f"the exported net's outputs differ from the net's by {difference:.3g} on a batch of {size}, where the "
            f"largest is {scale:.3g}; allowed: {TOLERANCE:g} of it. Nothing was written"
        )
    return difference / scale if scale else 0.0
