"""The neutral vocabulary of prunable structures, shared by ``importance`` and ``pruning``.

A *structure* (a channel, neuron or head) is a coupled group of slices of several layers'
parameters that must go together. Structures come in *groups*: all channels of one layer (or of
one residual stream) have slices in the same layers, so a group stores, for every layer it touches,
one row of indices per structure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

OUT = "out"
"""Axis of the rows of a Conv or Linear weight (its output channels), bias included."""
IN = "in"
"""Axis of the input channels of a Conv or Linear."""
FEATURE = "feature"
"""Axis of the channels of a norm layer or of a per-channel parameter such as a layer scale."""
HEAD = "head"
"""Axis of the heads of an attention module: of its keys and values, each with the queries' heads that share it."""
QUERY_KEY = "query-key"
"""Axis of the dimensions in which the queries and keys of an attention module meet, alike in all heads."""
VALUE = "value"
"""Axis of the dimensions of an attention module's values, alike in all heads."""
ATTENTION = (HEAD, QUERY_KEY, VALUE)
"""Axes of attention modules. A row, or column, of a projection belongs to a head and to a dimension at once."""
CHANNEL = "channel"
"""Kind of a structure inside of a block: a channel or a neuron."""
STREAM = "stream"
"""Kind of a structure that several layers' outputs are added up in: a channel of a residual stream or embedding."""


@dataclass(frozen=True)
class Slice:
    """What the structures of one group own of one axis of one layer.

    Attributes:
        layer: Name of the module in ``named_modules()`` (or of a bare parameter).
        axis: ``"out"``, ``"in"`` or ``"feature"``; of an attention module ``"head"``, ``"query-key"`` or ``"value"``.
        indices: ``indices[i]`` are the positions on that axis that structure ``i`` owns; every row
            has the same length (more than one where a channel is flattened into several features).
    """

    layer: str
    axis: str
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class StructureGroup:
    """Structures that are coupled to the same layers and compete inside one group.

    Attributes:
        name: Name of the layer whose outputs the structures are (the first one of a stream); a layer with
            channels of several kinds has groups ``name``, ``name#2``, …. Of an attention module called ``name``
            the groups are ``name.heads``, ``name.query-key`` and ``name.value``.
        slices: What the structures own, one entry for each coupled layer and axis.
        kind: ``"channel"``, ``"stream"``, or of an attention module ``"head"``, ``"query-key"`` or ``"value"``.
    """

    name: str
    slices: tuple[Slice, ...]
    kind: str = CHANNEL

    def __post_init__(self) -> None:
        """Refuse slices that speak of different numbers of structures."""
        lengths = {len(s.indices) for s in self.slices}
        if len(lengths) != 1:
            raise ValueError(f"group {self.name!r}: slices of {sorted(lengths)} structures, expected one number")

    def __len__(self) -> int:
        """Return the number of structures in the group."""
        return len(self.slices[0].indices)

    @property
    def width(self) -> int:
        """Number of channels, of all that it owns on one layer, that count towards floors: of a head its outputs."""
        if self.on_axis(QUERY_KEY, VALUE):
            return 1
        named = self.on_axis(IN) if self.on_axis(HEAD) else self.on_axis(OUT)
        return len((named or self.slices)[0].indices[0])

    def on_axis(self, *axes: str) -> list[Slice]:
        """Return the slices on the given axes.

        Args:
            axes: Any of ``"out"``, ``"in"``, ``"feature"``.

        Returns:
            The slices, in the order of the group.
        """
        return [s for s in self.slices if s.axis in axes]


def groups_to_json(groups: Iterable[StructureGroup]) -> list[dict[str, Any]]:
    """Return groups as plain JSON values.

    Args:
        groups: The groups.

    Returns:
        One dictionary per group.
    """
    return [
        {
            "name": g.name,
            "kind": g.kind,
            "slices": [
                {"layer": s.layer, "axis": s.axis, "indices": [list(row) for row in s.indices]} for s in g.slices
            ],
        }
        for g in groups
    ]


def groups_from_json(data: list[dict[str, Any]]) -> list[StructureGroup]:
    """Return the groups that :func:`groups_to_json` wrote.

    Args:
        data: The parsed JSON.

    Returns:
        The groups, in order.
    """
    return [
        StructureGroup(
            g["name"],
            tuple(Slice(s["layer"], s["axis"], tuple(tuple(row) for row in s["indices"])) for s in g["slices"]),
            g["kind"],
        )
        for g in data
    ]
