"""Check of traced structures: a net that is cut must compute what it computes masked.

Where a norm takes statistics over channels (LayerNorm, GlobalResponseNorm, …) it does not: the cut net's statistics
are of the kept channels. There the net must not change when structures trade places, which holds only if everything
that belongs to a structure was found. A swap of two and a rotation of all generate every permutation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from oba.errors import ModelError, ScoreError
from oba.importance.masks import masked, removal_masks
from oba.pruning import layers
from oba.pruning.plan import Kept, Plan
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import StructureGroup

_TOLERANCE = 1e-8
_ORDERS: tuple[Callable[[int], list[int]], ...] = (
    lambda n: [1, 0, *range(2, n)],
    lambda n: [*range(1, n), 0],
)
"""Permutations that generate all others."""


def verify_groups(model: nn.Module, groups: Sequence[StructureGroup], input_size: tuple[int, int, int]) -> None:
    """Compare a copy in float64, cut at every other structure, with the same copy masked (or permuted, see above).

    Tensors of one value throughout (such as branches that begin switched off) are filled first, so that nothing hides.

    Args:
        model: The dense net; left as found.
        groups: What was traced on it.
        input_size: Channels, height and width of an image.

    Raises:
        ModelError: If the two differ, or the cut net does not run; names all layers that must stay whole for the rest
            to be right.
    """
    generator = torch.Generator().manual_seed(0)
    model = copy.deepcopy(model).double().eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.numel() and (tensor == tensor.flatten()[0]).all():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
    device = next(model.parameters()).device
    images = torch.randn(2, *input_size, generator=generator, dtype=torch.float64).to(device)
    if _holds(model, groups, images):
        return
    right: list[StructureGroup] = []
    wrong: list[str] = []
    for group in groups:
        if _holds(model, [*right, group], images):
            right.append(group)
        else:
            wrong.append(group.name.partition("#")[0])
    raise ModelError(
        f"the traced structures of {type(model).__name__} are wrong at {len(wrong)} of {len(groups)} groups: the net "
        "without them does not compute what it computes with them masked; to prune the rest, add these layers to "
        f"structures.ignore: [{', '.join(dict.fromkeys(wrong))}]"
    )


@torch.no_grad()
def _holds(model: nn.Module, groups: Sequence[StructureGroup], images: Tensor) -> bool:
    """Tell whether the net without every other structure runs, and computes what it should."""
    removed = {g.name: range(0, len(g) - 1, 2) for g in groups}
    try:
        with masked(model, groups, removal_masks(groups, removed)):
            expected = model(images)
        found = _applied(model, removal_plan(model, groups, removed))(images)
        if found.shape != expected.shape:
            return False
        if _same(found, expected):
            return True
        whole = model(images)
        return all(_same(_applied(model, _permutation(model, groups, order))(images), whole) for order in _ORDERS)
    except (ModelError, ScoreError, RuntimeError, ValueError, IndexError, KeyError):
        return False


def _applied(model: nn.Module, plan: Plan) -> nn.Module:
    """Return a copy of the net, cut or reordered by a plan."""
    model = copy.deepcopy(model)
    apply_plan(model, plan)
    return model


def _permutation(model: nn.Module, groups: Sequence[StructureGroup], order: Callable[[int], list[int]]) -> Plan:
    """Return the plan that keeps everything and lets the structures of each group trade places."""
    positions: dict[tuple[str, str], list[int]] = {}
    for group in groups:
        for s in group.slices:
            size = layers.axes(layers.find(model, s.layer))[s.axis]
            before = positions.get((s.layer, s.axis), list(range(size)))
            positions[s.layer, s.axis] = moved = list(before)
            for row, source in zip(s.indices, order(len(group)), strict=True):
                for place, position in zip(row, s.indices[source], strict=True):
                    moved[place] = before[position]
    return Plan({key: Kept(len(moved), tuple(moved)) for key, moved in positions.items()})


def _same(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
