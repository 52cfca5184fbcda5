"""Plans: which positions of which layer axis are kept, in the dense net's coordinates.

An axis that no plan names is whole, so the empty plan is the identity. Plans compose, and groups
found on the dense net are carried over to a pruned net by :func:`restrict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from oba.errors import FileError
from oba.structures import ATTENTION, Slice, StructureGroup


@dataclass(frozen=True)
class Kept:
    """What is left of one axis of one layer.

    Attributes:
        size: Number of positions before.
        positions: The kept ones, increasing.
    """

    size: int
    positions: tuple[int, ...]

    @classmethod
    def without(cls, size: int, removed: Iterable[int]) -> Kept:
        """Return an axis without some positions.

        Args:
            size: Number of positions before.
            removed: The positions that go.

        Returns:
            What is left.
        """
        gone = set(removed)
        return cls(size, tuple(p for p in range(size) if p not in gone))


@dataclass(frozen=True)
class Plan:
    """Kept positions of every touched layer axis.

    Attributes:
        axes: What is left, by layer name and axis (``"out"``, ``"in"`` or ``"feature"``).
    """

    axes: Mapping[tuple[str, str], Kept] = field(default_factory=dict)

    def then(self, later: Plan) -> Plan:
        """Compose with a plan that was made on the net which this plan leaves.

        Args:
            later: A plan in the coordinates of the net pruned by this one.

        Returns:
            One plan in the coordinates that this plan speaks of.

        Raises:
            ValueError: If the later plan speaks of other sizes than this one leaves.
        """
        axes = dict(self.axes)
        for key, kept in later.axes.items():
            before = axes.get(key, Kept(kept.size, tuple(range(kept.size))))
            if len(before.positions) != kept.size:
                raise ValueError(
                    f"plans do not compose at {key}: the first leaves {len(before.positions)} positions, "
                    f"the second expects {kept.size}"
                )
            axes[key] = Kept(before.size, tuple(before.positions[p] for p in kept.positions))
        return Plan(axes)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values.

        Returns:
            One entry per touched axis.
        """
        return {
            "axes": [
                {"layer": layer, "axis": axis, "size": kept.size, "kept": list(kept.positions)}
                for (layer, axis), kept in self.axes.items()
            ]
        }

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """Return the plan that :meth:`to_json` wrote.

        Args:
            data: The parsed JSON.

        Returns:
            The plan.

        Raises:
            FileError: If the values are not a plan.
        """
        try:
            axes = {(e["layer"], e["axis"]): Kept(int(e["size"]), tuple(map(int, e["kept"]))) for e in data["axes"]}
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise FileError(f"not a plan ({type(error).__name__}: {error})") from error
        for (layer, axis), kept in axes.items():
            p = kept.positions
            increasing = all(a < b for a, b in pairwise(p))
            if not p or not increasing or p[0] < 0 or p[-1] >= kept.size:
                raise FileError(
                    f"plan of layer {layer!r}, axis {axis!r}: kept positions must be one or more, "
                    f"increasing, from 0 to {kept.size - 1}"
                )
        return cls(axes)


def restrict(groups: Sequence[StructureGroup], plan: Plan) -> tuple[list[StructureGroup], dict[str, tuple[int, ...]]]:
    """Carry groups of the dense net over to the net that a plan leaves.

    Args:
        groups: Groups in the dense net's coordinates.
        plan: What is left of the dense net.

    Returns:
        The groups re-indexed to the pruned net's positions, structures that are gone left out (and
        groups of which nothing is left), and per group the dense index of each structure left.

    Raises:
        FileError: If the plan keeps one part of a structure and removes another.
    """
    rank = {key: {p: i for i, p in enumerate(kept.positions)} for key, kept in plan.axes.items()}
    restricted, origin = [], {}
    for group in groups:
        ranks = [rank.get((s.layer, s.axis)) for s in group.slices]
        left = [i for i in range(len(group)) if _present(group, ranks, i)]
        if not left:
            continue
        origin[group.name] = tuple(left)
        slices = (
            Slice(s.layer, s.axis, tuple(_ranked(s.indices[i], rank) for i in left))
            for s, rank in zip(group.slices, ranks, strict=True)
        )
        restricted.append(replace(group, slices=tuple(slices)))
    return restricted, origin


def _ranked(positions: Iterable[int], rank: dict[int, int] | None) -> tuple[int, ...]:
    """Return where positions are now; some of an attention module's have gone with structures of another kind."""
    return tuple(positions) if rank is None else tuple(rank[p] for p in positions if p in rank)


def _present(group: StructureGroup, ranks: list[dict[int, int] | None], index: int) -> bool:
    """Tell whether all of a structure is kept; refuse one that is kept in part."""
    own = group.on_axis(*ATTENTION) or group.slices
    states = {
        rank is None or position in rank
        for s, rank in zip(group.slices, ranks, strict=True)
        if s in own
        for position in s.indices[index]
    }
    if len(states) > 1:
        raise FileError(
            f"plan and structures do not fit: structure {index} of {group.name!r} is kept in one layer "
            "and removed in another; both must come from the same dense net"
        )
    return states.pop()


def kept_counts(groups: Sequence[StructureGroup], plan: Plan) -> dict[str, tuple[int, int]]:
    """Count what a plan leaves of each group.

    Args:
        groups: Groups in the dense net's coordinates.
        plan: What is left of the dense net.

    Returns:
        Per group the number of structures kept and the dense number.
    """
    _, origin = restrict(groups, plan)
    return {g.name: (len(origin.get(g.name, ())), len(g)) for g in groups}
