"""What nets of two sides reach, matched by their coordinates and paired by seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from oba.compare.sides import Measures

NetName = tuple[tuple[str, str], ...]
"""Coordinates of a net as (axis, value)."""
MEASURES = ("test_top1", "val_top1", "macs", "parameters", "latency_ms")
_EXACT = MEASURES[:-1]
"""What a repetition repeats."""


@dataclass(frozen=True)
class Spread:
    """A mean and, of two values or more, their sample standard deviation."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of some values."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Pair:
    """One measure of a net on both sides.

    Attributes:
        a: Mean over the seeds in common.
        b: The same on the other side.
        difference: B minus A, seed by seed.
    """

    a: float
    b: float
    difference: Spread


@dataclass(frozen=True)
class Row:
    """A net in common, over seeds.

    Attributes:
        net: Its coordinates without the seed.
        seeds: The seeds in common; empty where the sides have no more than one each, which may differ.
        measures: What both sides know of it, by the names of :data:`MEASURES`.
    """

    net: dict[str, str]
    seeds: tuple[str, ...]
    measures: dict[str, Pair]

    @property
    def same(self) -> bool:
        """Whether the net is as good and as large on both sides with every seed."""
        spreads = [self.measures[name].difference for name in _EXACT if name in self.measures]
        return all(spread.mean == 0 and not spread.std for spread in spreads)


@dataclass(frozen=True)
class Results:
    """What the nets of two sides reach.

    Attributes:
        rows: The nets in common.
        in_common: Their number, counting seeds.
        top1: How the top-1 accuracy of the nets in common differs, as a fraction: the mean over nets, seed by seed;
            None without nets in common.
        measured: What that is: ``test_top1`` or ``val_top1``.
        seeds: Over how many seeds.
        only_a: Nets that A alone has.
        only_b: Nets that B alone has.
    """

    rows: list[Row]
    in_common: int
    top1: Spread | None
    measured: str
    seeds: int
    only_a: list[dict[str, str]]
    only_b: list[dict[str, str]]

    @property
    def same(self) -> bool:
        """Whether both sides have the same nets, each as good and as large."""
        return all(row.same for row in self.rows) and not self.only_a and not self.only_b

    def to_json(self) -> dict[str, Any]:
        """Return them as plain values."""

        def spread(of: Spread | None) -> dict[str, Any] | None:
            return of and {"mean": of.mean, "std": of.std}

        rows = [
            {
                **row.net,
                "seeds": list(row.seeds),
                **{
                    name: {"a": pair.a, "b": pair.b, "difference": spread(pair.difference)}
                    for name, pair in row.measures.items()
                },
            }
            for row in self.rows
        ]
        overall = {"measured": self.measured, "difference": spread(self.top1), "seeds": self.seeds}
        return {
            "in_common": self.in_common,
            "top1": overall,
            "nets": rows,
            "only_a": self.only_a,
            "only_b": self.only_b,
        }


def compare_results(a: Mapping[NetName, Measures], b: Mapping[NetName, Measures]) -> Results:
    """Match nets and compare what they reach.

    Args:
        a: Nets of one side, by their coordinates.
        b: Nets of the other.

    Returns:
        The comparison; differences are B minus A.
    """
    common = [net for net in a if net in b]
    by_net: dict[NetName, list[NetName]] = defaultdict(list)
    for net in common:
        by_net[tuple(pair for pair in net if pair[0] != "seed")].append(net)
    rows = [
        Row(
            dict(name),
            tuple(dict(net)["seed"] for net in nets if "seed" in dict(net)),
            {m: pair for m in MEASURES if (pair := _pair([(a[net], b[net]) for net in nets], m))},
        )
        for name, nets in by_net.items()
    ]
    measured = "test_top1" if any(a[net].test_top1 is not None for net in common) else "val_top1"
    by_seed: dict[str, list[float]] = defaultdict(list)
    for net in common:
        ours, theirs = getattr(a[net], measured), getattr(b[net], measured)
        if ours is not None and theirs is not None:
            by_seed[dict(net).get("seed", "")].append(theirs - ours)
    top1 = Spread.of([fmean(values) for values in by_seed.values()]) if by_seed else None
    only_a, only_b = ([dict(net) for net in ours if net not in theirs] for ours, theirs in ((a, b), (b, a)))
    return Results(rows, len(common), top1, measured, len(by_seed), only_a, only_b)


def _pair(nets: Sequence[tuple[Measures, Measures]], measure: str) -> Pair | None:
    """Return one measure of a net, where both sides know it with every seed."""
    pairs = [(getattr(a, measure), getattr(b, measure)) for a, b in nets]
    if any(value is None for pair in pairs for value in pair):
        return None
    a, b = zip(*pairs, strict=True)
    return Pair(fmean(a), fmean(b), Spread.of([theirs - ours for ours, theirs in pairs]))
