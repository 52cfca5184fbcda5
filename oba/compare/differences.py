"""What differs between two sides, group by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from oba.compare.results import Results, compare_results
from oba.compare.settings import ABSENT, NEUTRAL, Difference, differences, plain, shown, study_differences
from oba.compare.sides import Ran, Side, check_kinds
from oba.sections import STAGES

_SHARED = ("threads", "gpus", "runtime", "augment", "dense")
"""Sections that several stages see, so that it must be said whose they are."""


@dataclass(frozen=True)
class Code:
    """The code of one stage differs.

    Attributes:
        stage: The stage.
        jobs: Jobs in common whose digests differ.
        a: Digests in A.
        b: Digests in B.
        chosen: Whether the two sides' settings choose other modules for it, which would suffice.
    """

    stage: str
    jobs: int
    a: tuple[str, ...]
    b: tuple[str, ...]
    chosen: bool


@dataclass(frozen=True)
class Comparison:
    """What differs.

    Attributes:
        a: One side.
        b: The other side.
        settings: Settings that results depend on.
        neutral: Settings that no result depends on.
        code: Stages whose code differs.
        commits: Commit and whether the tree was dirty.
        data: Images and splits.
        versions: Versions of Python and libraries.
        machine: Host, device, threads.
        results: What the nets in common reach, and those that one side has alone.
    """

    a: Side
    b: Side
    settings: list[Difference]
    neutral: list[Difference]
    code: list[Code]
    commits: list[Difference]
    data: list[Difference]
    versions: list[Difference]
    machine: list[Difference]
    results: Results

    @property
    def only_settings(self) -> bool:
        """Whether there is nothing else to compare, because one side is a study file."""
        return "study" in {self.a.kind, self.b.kind}

    @property
    def same(self) -> bool:
        """Whether nothing differs, latency apart, which differs each time it is measured."""
        groups = (self.settings, self.neutral, self.code, self.commits, self.data, self.versions, self.machine)
        return not any(groups) and self.results.same

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        groups = ("settings", "neutral", "commits", "data", "versions", "machine")
        return {
            "a": str(self.a.path),
            "b": str(self.b.path),
            "kind": self.a.kind if self.a.kind == self.b.kind else "study",
            "same": self.same,
            **{name: [one.to_json() for one in getattr(self, name)] for name in groups},
            "code": [plain(vars(one)) for one in self.code],
            "results": self.results.to_json(),
        }


def compare_sides(a: Side, b: Side) -> Comparison:
    """Find what differs.

    Args:
        a: One side.
        b: The other, of the same kind; of a study and an experiment only settings are compared.

    Returns:
        The differences.
    """
    check_kinds(a, b)
    both_ran = "study" not in {a.kind, b.kind}
    common = [(a.jobs[key], b.jobs[key]) for key in a.jobs if key in b.jobs] if both_ran else []
    settings = study_differences(a.study, b.study) if a.study else _part_differences(a, b, common)
    if a.kind == b.kind == "experiment":
        settings = [one for one in settings if one.key != "experiment"]
    return Comparison(
        a=a,
        b=b,
        settings=[one for one in settings if not _is_neutral(one)],
        neutral=[one for one in settings if _is_neutral(one)],
        code=_code(common),
        commits=_sets(common, {"commit": lambda run: run.git.get("commit"), "dirty": lambda run: run.git.get("dirty")}),
        data=_data_differences(a.data, b.data) if both_ran else [],
        versions=_sets(
            common, {name: lambda run, name=name: getattr(run, name) for name in ("python", "torch", "oba")}
        ),
        machine=_sets(
            common, {name: lambda run, name=name: getattr(run, name) for name in ("host", "device", "threads")}
        ),
        results=compare_results(a.nets, b.nets) if both_ran else compare_results({}, {}),
    )


def _is_neutral(one: Difference) -> bool:
    return one.key.partition(".")[0] in NEUTRAL


def _part_differences(a: Side, b: Side, common: Iterable[tuple[Ran, Ran]]) -> list[Difference]:
    """Compare the coordinates of two chains, levels or nets, and what their jobs saw of their studies."""
    found = list(_changed(a.at, b.at))
    stages: dict[tuple[str, str, str], tuple[Difference, dict[str, None]]] = {}
    for one, other in common:
        for difference in differences(one.settings, other.settings):
            if difference.key != "method.name":
                key = difference.key, shown(difference.a), shown(difference.b)
                stages.setdefault(key, (difference, {}))[1][one.stage] = None
    for difference, names in stages.values():
        where = tuple(names) if difference.key.partition(".")[0] in _SHARED else ()
        found.append(Difference(difference.key, difference.a, difference.b, where))
    return found


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[Difference]:
    """Compare values by name, of what both or one of them have."""
    for key in dict.fromkeys([*a, *b]):
        if a.get(key, ABSENT) != b.get(key, ABSENT):
            yield Difference(key, a.get(key, ABSENT), b.get(key, ABSENT))


def _data_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Compare images and how they are divided; a seed that one side has alone is no other data."""
    alone = {key for key in a.keys() ^ b.keys() if key.startswith("splits.")}
    return [one for one in _changed(a, b) if one.key not in alone]


def _code(common: Iterable[tuple[Ran, Ran]]) -> list[Code]:
    """Find the stages whose digests differ; where the settings choose other modules, that is said."""
    pairs = defaultdict(list)
    for one, other in common:
        if one.code != other.code:
            pairs[one.stage].append((one, other))
    return [
        Code(
            stage,
            len(ones),
            tuple(dict.fromkeys(one.code for one, _ in ones)),
            tuple(dict.fromkeys(other.code for _, other in ones)),
            chosen=all(_choices(one) != _choices(other) for one, other in ones),
        )
        for stage, ones in sorted(pairs.items(), key=lambda pair: [*STAGES, pair[0]].index(pair[0]))
    ]


def _choices(run: Ran) -> list[Any]:
    """Return what a job's settings choose by name: its code is that of what is chosen."""

    def names(value: Any) -> Iterable[Any]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            if key in {"name", "from", "optimizer", "schedule"} and isinstance(inner, str):
                yield inner
            yield from names(inner)

    method = {key: inner for key, inner in (run.settings.get("method") or {}).items() if key != "name"}
    return [run.at.get("model"), *names(run.settings | {"method": method})]


def _sets(common: Iterable[tuple[Ran, Ran]], of: Mapping[str, Callable[[Ran], Any]]) -> list[Difference]:
    """Compare what the jobs of both sides have of something, each value once."""
    common = list(common)
    found = []
    for key, value in of.items():
        a, b = (list(dict.fromkeys(map(value, runs))) for runs in zip(*common, strict=True)) if common else ([], [])
        if set(a) != set(b):
            found.append(Difference(key, a[0] if len(a) == 1 else a, b[0] if len(b) == 1 else b))
    return found
