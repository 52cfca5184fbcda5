"""Reading a study: presets filled in, every mistake told in one line, names checked, the sweep laid out.

This is the one place above the registries: it knows the typed study (:mod:`oba.config`) and the names
that exist, and it imports neither torch nor any other heavy package (timm and torchvision only when a
study names one of their models).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from oba import registry
from oba.config import PRESETS, Study
from oba.errors import ConfigError, FileError
from oba.models.names import check_name


def load_study(path: Path) -> Study:
    """Read a study from a YAML or JSON file.

    Args:
        path: The file.

    Returns:
        The checked study.

    Raises:
        FileError: If the file is missing or not YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such study file") from error
    except yaml.YAMLError as error:
        raise FileError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    return parse_study(values, str(path))


def parse_study(values: Any, origin: str) -> Study:
    """Check plain values and turn them into a study.

    Args:
        values: What a study file holds.
        origin: Where the values come from, for messages.

    Returns:
        The checked study.

    Raises:
        ConfigError: If anything is not allowed; one line per mistake.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{origin}: got {type(values).__name__}; allowed: keys and values, such as config/config.yaml"
        )
    try:
        study = Study.model_validate(_with_preset(values))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in explain(error))) from error
    try:
        _check_names(study)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    return study


def retyped(overrides: Any) -> Any:
    """Read the texts in overrides as YAML: Snakemake hands over ``--config seeds=[0,1]`` as two texts.

    Args:
        overrides: What ``--config`` gave.

    Returns:
        The same, with numbers and truth values in the place of texts that write them.
    """
    if isinstance(overrides, Mapping):
        return {key: retyped(value) for key, value in overrides.items()}
    if isinstance(overrides, list):
        return [retyped(value) for value in overrides]
    return yaml.safe_load(overrides) if isinstance(overrides, str) else overrides


def _with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in a preset's settings below the given ones."""
    name = values.get("preset")
    base = PRESETS.get(name, {}) if isinstance(name, str) else {}
    return _merged(base, values)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(below, value) if both else value  # pyright: ignore[reportArgumentType]
    return result


def _check_names(study: Study) -> None:
    registry.check("data set", study.data.name, "data.name")
    for name in study.criteria:
        registry.check("criterion", name, "criteria")
    for name in study.models:
        check_name(name, "models")


def explain(error: ValidationError) -> Iterator[str]:
    """Turn pydantic's findings into one line each: the key, what was given, what is allowed.

    Args:
        error: What pydantic raised for a study.

    Yields:
        Lines without a full stop.
    """
    for finding in error.errors():
        location = finding["loc"]
        key = ".".join(str(part) for part in location)
        given = repr(finding["input"])
        if finding["type"] == "extra_forbidden":
            allowed = _keys_at(location[:-1])
            near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            yield f"{key}: unknown key{hint}; allowed: {', '.join(allowed)}"
        elif finding["type"] == "missing":
            yield f"{key}: missing; this key must be given"
        elif finding["type"] == "value_error":
            reason = finding["msg"].removeprefix("Value error, ")
            yield f"{key}: {reason}" if key else reason
        else:
            message = finding["msg"].replace("Input should be ", "allowed: ")
            yield f"{key}: got {given if len(given) < 80 else given[:77] + '...'}; {message}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at a location."""
    section: type[BaseModel] = Study
    for part in location:
        section = section.model_fields[str(part)].annotation  # pyright: ignore[reportAssignmentType]
    return [field.alias or name for name, field in section.model_fields.items()]


def dump_study(study: Study) -> dict[str, Any]:
    """Return a study as plain values that :func:`parse_study` reads back.

    Args:
        study: The study.

    Returns:
        All settings, defaults included.
    """
    return study.model_dump(mode="json", by_alias=True) | {"preset": None}
