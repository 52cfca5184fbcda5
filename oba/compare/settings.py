"""Which settings differ: plain values compared key by key, whatever their order and whoever wrote the defaults."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from oba.addresses import redacted
from oba.config import PARTS, ModelConfig, SweepMethod

ABSENT = object()
"""What a side has under a key that it does not have."""
NEUTRAL = ("experiment", "job_per", "tracking")
"""Sections of a study that no result depends on."""
_OWN = {"methods": SweepMethod.model_fields.keys() - {"name"}, "models": ModelConfig.model_fields.keys() - {"name"}}
"""The keys of an entry with a name."""
_DEFAULTS = {"methods": {"finetune.": "finetune.", "": "method_defaults."}, "models": {"": ""}}
"""Where a study says for all methods, or models, what each entry repeats: by how the entry's own key begins."""


@dataclass(frozen=True)
class Difference:
    """One thing that two sides do not agree on.

    Attributes:
        key: Its name, dotted.
        a: Its value in A, or :data:`ABSENT`.
        b: Its value in B, or :data:`ABSENT`.
        where: What it is about where the key does not say so, such as stages.
    """

    key: str
    a: Any
    b: Any
    where: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; a side that does not have it is left out."""
        sides = {side: plain(value) for side, value in (("a", self.a), ("b", self.b)) if value is not ABSENT}
        return {"key": self.key, **({"where": list(self.where)} if self.where else {}), **sides}


def plain(value: Any) -> Any:
    """Return a value without logins and passwords."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def study_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Compare two resolved studies.

    What all methods or models repeat of the study's own sections is told once.

    Args:
        a: All settings of one, as :func:`oba.study.dump_study` returns them.
        b: All settings of the other.

    Returns:
        What differs, in the order of the study.
    """
    found = list(differences(a, b))
    for section in _DEFAULTS:
        names = [{entry["name"] for entry in study.get(section, []) if "name" in entry} for study in (a, b)]
        found = list(_joined(found, section, len(names[0] & names[1])))
    return found


def differences(a: Any, b: Any, key: str = "") -> Iterator[Difference]:
    """Compare plain values.

    Args:
        a: Values of one side.
        b: Values of the other.
        key: Their name, dotted.

    Yields:
        What differs. Lists of entries with names are compared by name; a part of a method is one value where it is
        another part, because its options mean something else then.
    """
    if a == b:
        return
    a_named, b_named = _by_name(a), _by_name(b)
    if a_named is not None and b_named is not None:
        a, b = a_named, b_named
    other_part = key.rpartition(".")[2] in PARTS and _name(a) != _name(b)
    if isinstance(a, Mapping) and isinstance(b, Mapping) and not other_part:
        for name in dict.fromkeys([*a, *b]):
            yield from differences(a.get(name, ABSENT), b.get(name, ABSENT), f"{key}.{name}" if key else name)
    else:
        yield Difference(key, a, b)


def shown(value: Any) -> str:
    """Return a value as text for people: parts of methods by name with their options, no passwords."""
    if value is ABSENT:
        return "\N{EN DASH}"
    if isinstance(value, Mapping):
        if all(part in value for part in PARTS):
            return " × ".join(_name(value[part]) for part in PARTS)
        options = ", ".join(f"{key} {shown(inner)}" for key, inner in value.items() if key != "name")
        name = _name(value)
        return f"{name} ({options})" if name and options else name or options or "{}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "none"
    return redacted(value) if isinstance(value, str) else json.dumps(value).replace("null", "none")


def _name(value: Any) -> str:
    return str(value.get("name", "")) if isinstance(value, Mapping) else ""


def _by_name(value: Any) -> dict[str, Any] | None:
    """Return a list of entries with names as a mapping."""
    if not isinstance(value, Sequence) or not value or not all(_name(entry) for entry in value):
        return None
    return {_name(entry): {key: inner for key, inner in entry.items() if key != "name"} for entry in value}


def _joined(found: Iterable[Difference], section: str, entries: int) -> Iterator[Difference]:
    """Tell once what all entries of a section have, and not again what the study says of all of them."""
    found = list(found)
    said = {one.key: (_name(one.a) or one.a, _name(one.b) or one.b) for one in found}
    alike: dict[tuple[str, str, str], list[Difference]] = {}
    for one in found:
        alike.setdefault((_rest(one.key, section), shown(one.a), shown(one.b)), []).append(one)
    for (rest, _, _), ones in alike.items():
        first = ones[0]
        if not rest:
            yield from ones
        elif said.get(_default_of(rest, section)) == (_name(first.a) or first.a, _name(first.b) or first.b):
            continue
        elif len(ones) == entries > 1:
            yield replace(first, key=f"{section}.*.{rest}")
        else:
            yield from ones


def _rest(key: str, section: str) -> str:
    """Return the part of a key behind an entry's name, which may have dots; empty where the key is none of these."""
    if not key.startswith(f"{section}."):
        return ""
    words = key.removeprefix(f"{section}.").split(".")
    starts = [i for i, word in enumerate(words) if word in _OWN[section]]
    return ".".join(words[starts[0] :]) if starts and starts[0] else ""


def _default_of(rest: str, section: str) -> str:
    """Return the study's own key for what an entry has under one."""
    own, default = next((o, d) for o, d in _DEFAULTS[section].items() if rest.startswith(o))
    return default + rest.removeprefix(own)
