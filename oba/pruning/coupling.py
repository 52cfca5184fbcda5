"""From channels that are tied to structures and groups of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from oba.structures import CHANNEL, FEATURE, IN, OUT, Slice, StructureGroup


class Position(NamedTuple):
    """A position on an axis, and the output channel of the starting layer that it was reached from.

    Attributes:
        idx: The position.
        root_idx: The channel, called as Torch-Pruning's index maps expect.
    """

    idx: int
    root_idx: int


def join(
    positions: Mapping[tuple[str, str], set[Position]],
    roots: Sequence[int],
    order: Mapping[str, int],
    kind: str = CHANNEL,
) -> list[StructureGroup]:
    """Join the channels that meet into structures, and structures of equal shape into groups.

    Args:
        positions: By layer and axis, everything that is tied to output channels of one layer.
        roots: Those output channels.
        order: Rank of each layer in the net.
        kind: What the structures are: channels inside of a block, or of a stream.

    Returns:
        Groups of at least two structures; slices in the order of the net.
    """
    parent = {r: r for r in roots}

    def top(root: int) -> int:
        while parent[root] != root:
            parent[root] = root = parent[parent[root]]
        return root

    keys = sorted(positions, key=lambda k: (order[k[0]], (OUT, IN, FEATURE).index(k[1])))
    for key in keys:
        first: dict[int, int] = {}
        for position in positions[key]:
            a, b = top(position.root_idx), top(first.setdefault(position.idx, position.root_idx))
            parent[max(a, b)] = min(a, b)
    rows: dict[int, dict[tuple[str, str], set[int]]] = {r: defaultdict(set) for r in roots if top(r) == r}
    for key in keys:
        for position in positions[key]:
            rows[top(position.root_idx)][key].add(position.idx)
    shapes: dict[tuple[tuple[tuple[str, str], int], ...], list[dict[tuple[str, str], set[int]]]] = defaultdict(list)
    for structure in rows.values():
        shapes[tuple((key, len(structure[key])) for key in keys if key in structure)].append(structure)
    groups = []
    for shape, structures in shapes.items():
        if len(structures) > 1:
            slices = (Slice(*key, tuple(tuple(sorted(s[key])) for s in structures)) for key, _ in shape)
            name = next(layer for (layer, axis), _ in shape if axis == OUT)
            groups.append(StructureGroup(name, tuple(slices), kind))
    return groups


def numbered(groups: Sequence[StructureGroup]) -> list[StructureGroup]:
    """Tell groups of one layer apart.

    Args:
        groups: Groups, some of which may have one name.

    Returns:
        The same groups, called ``name``, ``name#2``, …
    """
    count: Counter[str] = Counter()
    numbered = []
    for group in groups:
        count[group.name] += 1
        n = count[group.name]
        numbered.append(group if n == 1 else replace(group, name=f"{group.name}#{n}"))
    return numbered
