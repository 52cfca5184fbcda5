"""Check of traced structures: a net that is cut must compute what it computes masked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from oba.errors import ModelError, ScoreError
from oba.importance.masks import masked, removal_masks
from oba.pruning import layers
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import StructureGroup

_TOLERANCE = 1e-8
_SHOWN = 5


def verify_groups(model: nn.Module, groups: Sequence[StructureGroup], input_size: tuple[int, int, int]) -> None:
    """Cut and mask every other structure of a copy in float64 and compare the outputs.

    Tensors that are zero throughout (branches that begin switched off) are filled first, so that nothing
    hides. Groups whose channels a norm mixes cannot be compared; their cut net must run.

    Args:
        model: The dense net; left as found.
        groups: What was traced on it.
        input_size: Channels, height and width of an image.

    Raises:
        ModelError: If the two differ, or the cut net does not run; names the groups at fault.
    """
    generator = torch.Generator().manual_seed(0)
    model = copy.deepcopy(model).double().eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and not tensor.count_nonzero():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
    device = next(model.parameters()).device
    images = torch.randn(2, *input_size, generator=generator, dtype=torch.float64).to(device)
    exact = [g for g in groups if not any(layers.mixes_channels(layers.find(model, s.layer)) for s in g.slices)]
    mixed = [g for g in groups if g not in exact]
    if _holds(model, exact, images, compare=True) and _holds(model, mixed, images, compare=False):
        return
    wrong = (g.name for g in groups if not _holds(model, [g], images, compare=g in exact))
    shown = ", ".join(islice(wrong, _SHOWN)) or "several groups together"
    raise ModelError(
        f"the traced structures of {type(model).__name__} are wrong at {shown} (and maybe more): the net "
        "without them does not compute what it computes with them masked; add these layers to structures.ignore"
    )


@torch.no_grad()
def _holds(model: nn.Module, groups: Sequence[StructureGroup], images: Tensor, *, compare: bool) -> bool:
    """Tell whether the net without every other structure runs, and computes what it should."""
    if not groups:
        return True
    removed: Mapping[str, range] = {g.name: range(0, len(g) - 1, 2) for g in groups}
    pruned = copy.deepcopy(model)
    try:
        with masked(model, groups, removal_masks(groups, removed)):
            expected = model(images)
        apply_plan(pruned, removal_plan(pruned, groups, removed))
        found = pruned(images)
    except (ModelError, ScoreError, RuntimeError, ValueError, IndexError, KeyError):
        return False
    if found.shape != expected.shape:
        return False
    return not compare or bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
