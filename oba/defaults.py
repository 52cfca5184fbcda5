"""What a study file may leave out: presets below it, and what models and methods take from the study's sections.

Nothing is checked here: values of the wrong kind are left as they are, for :mod:`oba.config` to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oba.config import PRESETS, MethodDefaults


def filled_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the preset, and give every model and method what the file leaves to the study's sections.

    Args:
        given: What a study file says.

    Returns:
        The same with everything that a :class:`oba.config.Study` needs, where it was left out.
    """
    values = _with_preset(given)
    filled = dict(values)
    if isinstance(values.get("models"), list):
        shared = {key: values.get(key, {}) for key in ("dense", "structures")}
        filled["models"] = [_own_model(entry, shared) for entry in values["models"]]
    if isinstance(values.get("methods"), list):
        defaults = values.get("method_defaults", {})
        methods = [own_method(entry, defaults) for entry in values["methods"]]
        filled["methods"] = [_own_recipe(method, values.get("finetune", {})) for method in methods]
    return filled


def _own_model(entry: Any, shared: Mapping[str, Any]) -> Any:
    if isinstance(entry, str):
        entry = {"name": entry}
    return _merged(shared, entry) if isinstance(entry, Mapping) else entry


def own_method(entry: Any, given: Any) -> Any:
    """Fill in a method's name and what it takes from the defaults.

    Args:
        entry: A criterion's name, or a mapping.
        given: The study's ``method_defaults``, which may be damaged: they are checked later.

    Returns:
        The mapping with everything that a method needs; an entry of another kind as it is.
    """
    if isinstance(entry, str):
        entry = {"criterion": entry}
    if not isinstance(entry, Mapping):
        return entry
    criterion = entry.get("criterion")
    name = criterion.get("name") if isinstance(criterion, Mapping) else criterion
    own = {"name": name if isinstance(name, str) else "unnamed"}
    given = given if isinstance(given, Mapping) else {}
    shared = MethodDefaults().model_dump(exclude={"criterion"}) | {k: v for k, v in given.items() if k != "criterion"}
    floors = shared["floors"]
    merged = own | shared | dict(entry)
    if merged["granularity"] == "weights":
        merged["floors"] = entry.get("floors")
    elif isinstance(floors, Mapping) and isinstance(merged["floors"], Mapping):
        merged["floors"] = {**floors, **merged["floors"]}
    return merged


def _own_recipe(method: Any, finetune: Any) -> Any:
    """Fill in how a method's nets are trained on from the study's section."""
    if not isinstance(method, Mapping):
        return method
    own = method.get("finetune", {})
    both = isinstance(finetune, Mapping) and isinstance(own, Mapping)
    return {**method, "finetune": _merged(finetune, own) if both else own}


def _with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in a preset's settings below the given ones."""
    return _merged(PRESETS.get(str(values.get("preset")), {}), values)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(below, value) if both else value  # pyright: ignore[reportArgumentType]
    return result
