"""The reference of study files, written from the schema and from what each stage sees of a study."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from oba import registry
from oba.options import part
from oba.schema import study_schema
from oba.sections import PER_STAGE
from oba.sections import STAGES as SECTIONS

_SWEEP = ("experiment", "preset", "models", "seeds", "methods", "schedules", "keep", "controls", "job_per")
_SECTIONS = {
    "data": "Images",
    "splits": "Splits",
    "augment": "Augmentation",
    "calibration": "Calibration images",
    "dense": "Dense training",
    "finetune": "Fine-tuning",
    "scratch": "The control `scratch`",
    "structures": "What may go",
    "evaluation": "Evaluation",
    "runtime": "Devices and precision",
    "threads": "CPU threads",
    "gpus": "GPUs",
    "tracking": "MLflow",
}
_PARTS = {
    "criterion": "Criteria and their options",
    "allocation": "Allocations",
    "weight allocation": "Allocations of single weights",
    "update": "Updates",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "gt": ">", "lt": "<"}
_LARGEST = 2**63
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "null": "`null`", "object": "mapping"}


def study_keys() -> str:
    """Return the reference of all keys of a study, as Markdown."""
    schema = study_schema()
    known, top = schema["$defs"], schema["properties"]
    lines = ["## The sweep", ""]
    for key in _SWEEP:
        lines += _key(key, top[key], known, required=key in schema["required"], seen=seen_by(key))
    lines += ["### An entry of `models`", "", "A name, or a mapping:", ""]
    lines += _keys("models", known["ModelConfig"], known)
    lines += ["### An entry of `methods`", "", "A criterion's name, or a mapping. What it leaves out comes from"]
    lines += ["`method_defaults`, which has the same keys except `name` and `finetune`.", ""]
    lines += _keys("methods", known["SweepMethod"], known, defaults=known["MethodDefaults"])
    lines += ["#### `floors`", "", *_keys("methods.floors", known["Floors"], known, "prune")]
    for section, title in _SECTIONS.items():
        lines += [f"## {title}: `{section}`" if f"`{section}`" not in title else f"## {title}", ""]
        lines += [top[section]["description"], ""] if "description" in top[section] else []
        if section == "scratch":
            lines += ["Its keys are those of [`finetune`](#fine-tuning-finetune) without `distillation`.", ""]
            continue
        lines += _keys(section, known[_reference(top[section])], known)
    for kind, title in _PARTS.items():
        lines += [f"## {title}", "", *_entries(kind, known)]
    return "\n".join(lines)


def seen_by(section: str, key: str = "") -> list[str]:
    """Return the stages whose jobs run again when a key changes.

    Args:
        section: A top-level key of the study.
        key: A key of that section.

    Returns:
        Names of stages; what has a key of its own in every job (a model, a seed, a level) is seen by none.
    """
    found = []
    for stage, slices in SECTIONS.items():
        for name, field in slices.model_fields.items():
            place = {"method": "methods", "prunable": "structures"}.get(name, name)
            if place != section:
                continue
            declared = [t for t in get_args(field.annotation) or (field.annotation,) if isinstance(t, type)]
            fields = [set(t.model_fields) | _aliases(t) for t in declared if issubclass(t, BaseModel)]
            if (name in PER_STAGE and key == slices.kind()) or any(key in names for names in fields):
                found.append(stage)
    if section == "methods" and key == "finetune":
        found.append("finetune")
    return list(dict.fromkeys(found))


def _aliases(section: type[BaseModel]) -> set[str]:
    return {field.alias for field in section.model_fields.values() if field.alias}


def _reference(described: dict[str, Any]) -> str:
    """Return the name of the definition that a property, or one of its choices, refers to; empty if none."""
    choices = [described, *described.get("anyOf", []), described.get("items", {})]
    return next((c["$ref"].rpartition("/")[2] for c in choices if "$ref" in c), "")


def _keys(
    section: str,
    definition: dict[str, Any],
    known: dict[str, Any],
    stage: str = "",
    defaults: dict[str, Any] | None = None,
) -> list[str]:
    """Describe the keys of a section; ``defaults``: a section that has defaults for those that this one lacks."""
    seen_of = {key: [stage] if stage else seen_by(section, key) for key in definition["properties"]}
    lines, common = [], list(seen_of.values())
    if all(seen == common[0] for seen in common) and common[0]:
        lines, seen_of = [f"A change reruns {_names(common[0])}.", ""], {}
    for key, described in definition["properties"].items():
        seen = seen_of.get(key, [])
        required = key in definition.get("required", [])
        fallback = (defaults or {"properties": {}})["properties"].get(key, {})
        shown = {k: v for k, v in fallback.items() if k == "default"} | described if not required else described
        lines += _key(key, shown, known, required=required, seen=seen)
    return lines


def _key(key: str, described: dict[str, Any], known: dict[str, Any], *, required: bool, seen: list[str]) -> list[str]:
    facts = [_allowed(described, known)]
    if required:
        facts.append("**required**")
    elif "default" in described and not isinstance(described["default"], dict):
        facts.append(f"default `{_yaml(described['default'])}`")
    elif isinstance(named := described.get("default"), dict) and set(named) == {"name"}:
        facts.append(f"default `{named['name']}`")
    if seen:
        facts.append(f"reruns {_names(seen)}")
    text = described.get("description") or known.get(_reference(described), {}).get("description", "")
    return [f"`{key}`", f": {' · '.join(fact for fact in facts if fact)}", "", f"  {_one_line(text)}", ""]


def _names(stages: list[str]) -> str:
    return ", ".join(f"`{stage}`" for stage in stages)


def _allowed(described: dict[str, Any], known: dict[str, Any]) -> str:
    """Say in words what a key may be."""
    name = _reference(described)
    if name in {"criterion", "allocation", "update"}:
        return f"a name, or a mapping with options: [{_PARTS[name].split(' and')[0].lower()}](#{_anchor(_PARTS[name])})"
    if "anyOf" in described:
        return " or ".join(dict.fromkeys(_allowed(choice, known) for choice in described["anyOf"]))
    if "enum" in described:
        return ", ".join(f"`{value}`" for value in described["enum"])
    if "const" in described:
        return f"`{described['const']}`"
    if name:
        inner = known[name].get("properties", {})
        return f"mapping: {', '.join(f'`{key}`' for key in inner)}" if len(inner) <= 5 else "mapping"
    kind = described.get("type", "")
    if kind == "array":
        return f"list of {_plural(_allowed(described['items'], known))}"
    if kind == "boolean":
        return "`true`, `false`"
    bounds = {sign: described[key] for key, sign in _BOUNDS.items() if described.get(key, _LARGEST) < _LARGEST}
    return f"{_TYPES.get(kind, kind)} {' and '.join(f'{sign} {bound:g}' for sign, bound in bounds.items())}".strip()


def _plural(what: str) -> str:
    return re.sub(r"^(whole number|number|mapping)", r"\1s", what).replace("text or mapping", "names or mappings")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _yaml(value: Any) -> str:
    """Return a plain value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    """Join lines, and write names as Markdown does."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split())).replace("``", "`")


def _entries(kind: str, known: dict[str, Any]) -> Iterator[str]:
    """Describe the registered entries of a part of a method, with the options of each."""
    for name in registry.names(kind):
        summary = (registry.load(kind, name).__doc__ or "").split("\n\n")[0]
        summary = re.sub(rf",? ``{name}``", "", " ".join(summary.split()))
        yield from (f"`{name}`", f": {_one_line(summary)}", "")
        options = part(kind, name).options_type.model_json_schema()
        for key, described in options.get("properties", {}).items():
            default = f"; default `{_yaml(described['default'])}`" if "default" in described else ""
            allowed = _allowed(described, known | options.get("$defs", {}))
            yield f"  - `{key}`: {allowed}{default}. {_one_line(described.get('description', ''))}"
        yield ""
