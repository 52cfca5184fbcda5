"""Index maps of ``split`` and ``chunk`` in Torch-Pruning's graph, put right.

Torch-Pruning gives the n-th consumer it met the n-th part. Consumers are met in the backward graph's
order, a part may have several consumers or none; the autograd edges know which part each one reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from oba.pruning.coupling import Position


class _Part(NamedTuple):
    """Map of positions into (or, reversed, out of) one part of a split."""

    start: int
    stop: int
    reverse: bool

    def __call__(self, positions: Iterable[Position]) -> list[Position]:
        if self.reverse:
            return [Position(p.idx + self.start, p.root_idx) for p in positions]
        return [Position(p.idx - self.start, p.root_idx) for p in positions if self.start <= p.idx < self.stop]


def repair_splits(graph: Any) -> None:
    """Set the index maps of all splits over channels from the parts that consumers read.

    Args:
        graph: A built ``DependencyGraph``, changed in place.
    """
    for node in graph.module2node.values():
        name = getattr(node.grad_fn, "name", str)()
        offsets = _offsets(node.grad_fn) if name.startswith("Split") else None
        if offsets:
            for part, there, back in _edges(node):
                there.index_mapping[0] = _Part(offsets[part], offsets[part + 1], False)
                back.index_mapping[0] = _Part(offsets[part], offsets[part + 1], True)


def _offsets(grad_fn: Any) -> list[int] | None:
    """Return where the parts begin and end, or ``None`` if the split is not over channels."""
    sizes = grad_fn._saved_self_sym_sizes
    dim = grad_fn._saved_dim if grad_fn._saved_dim < len(sizes) else grad_fn._saved_dim - 2**64 + len(sizes)
    if dim != (2 if len(sizes) == 3 else 1):
        return None
    size = grad_fn._saved_split_size if hasattr(grad_fn, "_saved_split_size") else None
    if size is None:
        return list(accumulate(grad_fn._saved_split_sizes, initial=0))
    return [*range(0, sizes[dim], size), sizes[dim]]


def _edges(node: Any) -> Iterator[tuple[int, Any, Any]]:
    """Yield, for every edge out of a split, the part's number and the dependencies there and back."""
    there, back = defaultdict(list), {}
    for dependency in node.dependencies:
        there[dependency.target].append(dependency)
    for consumer in set(node.outputs):
        back[consumer] = [d for d in consumer.dependencies if d.target is node]
        parts = [part for source, part in consumer.grad_fn.next_functions if source is node.grad_fn]
        yield from zip(parts, there[consumer], back[consumer], strict=True)
