"""Mistakes in settings, told in one line each: the key, what was given, what is allowed."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from oba.addresses import redacted
from oba.config import Study


def explain(error: ValidationError, model: type[BaseModel] = Study) -> Iterator[str]:
    """Turn pydantic's findings into one line each: the key, what was given, what is allowed.

    Args:
        error: What pydantic raised.
        model: For what it raised it.

    Yields:
        Lines without a full stop.
    """
    for finding in _told_once(error.errors()):
        location = finding["loc"]
        key = ".".join(_shown(step) for step in location)
        given = redacted(repr(finding["input"]))
        if finding["type"] == "extra_forbidden":
            allowed = _keys_at(model, location[:-1])
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


def _shown(step: int | str) -> str:
    """Return a key as it is written, unless it would break the line."""
    return str(step) if str(step).isprintable() else repr(step)


def _keys_at(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at a location; entries of lists are sections, too."""
    for step in location:
        if isinstance(step, str):
            annotation = section.model_fields[step].annotation
            inner = [a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            section = inner[0] if inner else cast("type[BaseModel]", annotation)
    return [field.alias or name for name, field in section.model_fields.items()]


def _told_once(findings: list[Any]) -> Iterator[Any]:
    """Leave out what models and methods only took over from sections of the study: it is told there."""
    places = [finding["loc"] for finding in findings]
    for finding in findings:
        match finding["loc"]:
            case ("models", int(), *rest):
                shared = tuple(rest)
            case ("methods", int(), "finetune", *rest):
                shared = ("finetune", *rest)
            case ("methods", int(), *rest):
                shared = ("method_defaults", *rest)
            case _:
                shared = ()
        if not any(shared[: len(place)] == place for place in places if place):
            yield finding
