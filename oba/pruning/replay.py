"""Replay plans: from a dense net to the pruned one, and from disk, without Torch-Pruning.

A pruned net is stored as plan and weights, never as a pickled module: the dense net is built, the
plan replayed, the weights loaded strictly.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from oba.errors import FileError, ModelError, ObaError
from oba.files import digest_file, digest_json, read_json, read_tensors
from oba.models.attention import open_attention
from oba.models.stored import PLAN, WEIGHTS, ModelCard
from oba.models.weight_masks import unpack
from oba.pruning import layers
from oba.pruning.plan import Kept, Plan
from oba.structures import StructureGroup


def removal_plan(model: nn.Module, groups: Sequence[StructureGroup], removed: Mapping[str, Iterable[int]]) -> Plan:
    """Return the plan that removes structures from a net.

    Args:
        model: The net in whose coordinates the groups are.
        groups: Groups of structures.
        removed: Indices of the structures that go, by group name.

    Returns:
        The plan; layers that lose nothing are not in it.
    """
    gone: dict[tuple[str, str], set[int]] = defaultdict(set)
    for group in groups:
        for index in removed.get(group.name, ()):
            for s in group.slices:
                gone[s.layer, s.axis].update(s.indices[index])
    return Plan({
        (layer, axis): Kept.without(layers.axes(layers.find(model, layer))[axis], positions)
        for (layer, axis), positions in gone.items()
    })


def apply_plan(model: nn.Module, plan: Plan) -> None:
    """Cut a net in place: parameters, buffers and the sizes that its layers know.

    Nothing is changed when the plan does not fit. Parameters become new objects (gradients and
    optimizer states do not follow); what requires gradients, devices and dtypes stay.

    Args:
        model: The net whose coordinates the plan speaks of.
        plan: What is to be left.
    """
    by_layer: dict[str, dict[str, Kept]] = defaultdict(dict)
    for (layer, axis), kept in plan.axes.items():
        by_layer[layer][axis] = kept
    for name, kept in by_layer.items():
        _check(name, layers.find(model, name), kept)
    for name, kept in by_layer.items():
        layers.cut(model, name, kept)
    for module in model.modules():
        layers.tell_width(module)


def _check(name: str, layer: nn.Module | nn.Parameter, kept: dict[str, Kept]) -> None:
    """Refuse what cannot be cut out of a layer."""
    sizes = layers.axes(layer)
    for axis, k in kept.items():
        if axis not in sizes:
            raise ModelError(f"layer {name!r} ({type(layer).__name__}) has no axis {axis!r} that can be cut")
        if sizes[axis] != k.size:
            raise ModelError(
                f"layer {name!r} has {sizes[axis]} positions on axis {axis!r}, the plan expects {k.size}; "
                "it is of another model, or already applied"
            )
    if isinstance(layer, nn.Module) and layers.coupled_blocks(layer) > 1:
        blocks = {layers.whole_blocks(layer, axis, k) for axis, k in kept.items()}
        if len(kept) != len(sizes) or len(blocks) != 1 or None in blocks:
            raise ModelError(f"layer {name!r} is grouped: only whole groups can go, alike on every axis")


def read_plan(directory: Path) -> tuple[ModelCard, Plan]:
    """Read what a stored net is, without its weights.

    Args:
        directory: Where :func:`~oba.models.stored.save_pruned` wrote.

    Returns:
        The card of the dense net, and the plan.

    Raises:
        FileError: If ``plan.json`` is missing or damaged.
    """
    path = Path(directory) / PLAN
    data = read_json(path)
    if not isinstance(data, dict):
        raise FileError(f"{path}: not a plan file (a JSON object with 'card' and 'plan')")
    try:
        found = ModelCard.from_json(data.get("card")), Plan.from_json(data.get("plan"))
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    if digest_json({key: value for key, value in data.items() if key != "digest"}) != data.get("digest"):
        raise FileError(f"{path}: not as it was written (its digest differs); run its stage again")
    return found


def load_pruned(directory: str | Path, dense: nn.Module | None = None) -> nn.Module:
    """Rebuild a stored net: build the dense one, replay the plan, load the weights strictly.

    torch's global random state is left as found.

    Args:
        directory: Where the net was stored.
        dense: The dense architecture, with any weights, of a net that the pipeline does not know by name; left as
            found.

    Returns:
        The net, on the CPU, in eval mode: ready to classify images normalised as the card says.

    Raises:
        FileError: If a file is missing or damaged, or the files do not fit each other.
    """
    return load_masked(directory, dense)[0]


def load_masked(directory: str | Path, dense: nn.Module | None = None) -> tuple[nn.Module, dict[str, Tensor]]:
    """Rebuild a stored net as :func:`load_pruned` does, and what is kept of its weights.

    Args:
        directory: Where the net was stored.
        dense: The dense architecture, as for :func:`load_pruned`.

    Returns:
        The net, and its masks on the CPU: none where no single weights went.

    Raises:
        FileError: If a file is missing or damaged, or the files do not fit each other.
    """
    from oba.models import build_model

    directory = Path(directory)
    card, plan = read_plan(directory)
    path = directory / WEIGHTS
    tensors = read_tensors(path)
    if digest_file(path) != read_json(directory / PLAN).get("weights"):
        raise FileError(f"{path}: not the weights that {PLAN} beside it was written for; run their stage again")
    try:
        if dense is not None:
            model = open_attention(copy.deepcopy(dense).cpu())
        else:
            with torch.random.fork_rng(devices=[]):
                model = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size)
        apply_plan(model, plan)
        weights, masks = unpack(tensors, model)
        model.load_state_dict(weights)
    except (ObaError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FileError(f"{directory}: the stored net does not fit model {card.name!r}: {reason}") from error
    return model.eval(), masks
