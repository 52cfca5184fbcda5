"""Which rows of a layer's input belong to which example, where there are more rows than examples.

A net that attends within windows puts all windows of all images into one batch. Whether those of one image lie side by
side cannot be read off shapes: sequences and windows may also come first. So the net runs twice on two examples, the
second of which has changed, and only rows in the second half may.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from oba.errors import ScoreError

_T = TypeVar("_T")


class MixedExamplesError(ScoreError):
    """It cannot be told which rows of a layer's input belong to one example."""


def rows_each(layer: str, rows: int, examples: int, side_by_side: Collection[str]) -> int:
    """Return how many rows each example has.

    Args:
        layer: Name of the layer.
        rows: Number of rows of its input.
        examples: Number of examples N.
        side_by_side: Layers in whose input the rows of an example are known to lie side by side.

    Returns:
        How many consecutive rows belong to an example.

    Raises:
        MixedExamplesError: If that cannot be told.
    """
    if rows == examples:
        return 1
    if layer in side_by_side and rows % examples == 0:
        return rows // examples
    raise MixedExamplesError(
        f"layer {layer!r} takes {rows} rows for {examples} examples: it cannot be told which belong together; allowed: "
        "criteria that do not look at single examples"
    )


def knowing_rows(model: nn.Module, inputs: Tensor, layers: Collection[str], run: Callable[[Collection[str]], _T]) -> _T:
    """Do something that needs to know rows; where they turn out to be more than examples, find out and do it again.

    Args:
        model: The model, in the mode in which it is run.
        inputs: One batch, shape (N, ...).
        layers: Names of the layers whose inputs matter.
        run: Takes the layers whose rows are known to lie side by side.

    Returns:
        What ``run`` returns.

    Raises:
        MixedExamplesError: If ``run`` meets rows that do not lie side by side.
    """
    try:
        return run(())
    except MixedExamplesError:
        return run(_side_by_side(model, inputs, layers))


@torch.no_grad()
def _side_by_side(model: nn.Module, inputs: Tensor, layers: Collection[str]) -> set[str]:
    """Find the layers in whose input only rows in the second half change if the second of two examples does."""
    first, second = inputs[:1], inputs[-1:]
    before, after = (_inputs(model, torch.cat([first, other]), layers) for other in (second, 1 - 2 * second))
    return {
        layer
        for layer, calls in before.items()
        if all(_only_second_half(x, y) for x, y in zip(calls, after[layer], strict=True))
    }


def _inputs(model: nn.Module, batch: Tensor, layers: Collection[str]) -> dict[str, list[Tensor]]:
    """Run the model; return what layers take, call by call."""
    found: dict[str, list[Tensor]] = defaultdict(list)

    def see(layer: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, arguments: found[layer].append(arguments[0].clone())

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(model.get_submodule(layer).register_forward_pre_hook(see(layer)).remove)
        model(batch)
    return found


def _only_second_half(x: Tensor, y: Tensor) -> bool:
    changed = (x != y).flatten(1).any(1)
    return len(x) % 2 == 0 and bool(changed.any()) and not bool(changed[: len(x) // 2].any())
