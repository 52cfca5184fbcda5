"""Reading a study: presets and defaults filled in, names and options checked, every mistake told in one line.

This is the one place that knows the typed study (:mod:`oba.config`) and the entries that exist. Options are declared
beside the code that has them, so checking them imports torch; timm and torchvision are imported only when a study names
one of their models. A resolved study (:func:`dump_study`) is read without either (:func:`load_resolved`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from oba import registry
from oba.addresses import redacted
from oba.config import PARTS, PRESETS, Choice, MethodConfig, MethodDefaults, Study, SweepMethod
from oba.defaults import filled_in, own_method
from oba.errors import ConfigError, FileError
from oba.files import read_json
from oba.mistakes import explain
from oba.models.names import check_name
from oba.models.published import resolved
from oba.options import checked_options, option_names, part
from oba.plain import check_size, parse_yaml

M = TypeVar("M", bound=MethodConfig)


def load_study(path: Path) -> Study:
    """Read a study from a YAML or JSON file.

    Args:
        path: The file.

    Returns:
        The checked study.
    """
    return parse_study(read_study(path), str(path))


def read_study(path: Path) -> Any:
    """Read a study file without checking what it says.

    Args:
        path: The file.

    Returns:
        Its values.

    Raises:
        FileError: If the file is missing or not YAML.
    """
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileError(f"{path}: no such study file") from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: not valid YAML ({redacted(str(error))})") from error


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
        check_size(values)
        study = Study.model_validate(filled_in(values))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in explain(error))) from error
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    try:
        _check_names(study)
        methods = _all_with_options(study)
        _check_copies(methods)
        _check_defaults(study)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in str(error).splitlines())) from error
    return study.model_copy(update={"methods": methods, "models": [resolved(model) for model in study.models]})


def load_resolved(path: Path) -> Study:
    """Read a study that was checked before, as :func:`dump_study` wrote it; nothing is imported for its names.

    Args:
        path: The JSON file.

    Returns:
        The study.

    Raises:
        FileError: If the file is missing or damaged.
    """
    try:
        return Study.model_validate(read_json(path))
    except ValidationError as error:
        raise FileError(f"{path}: not a resolved study: {next(explain(error))}; start the workflow again") from error


def retyped(overrides: Any) -> Any:
    """Read the texts in overrides as YAML: Snakemake hands over ``--config seeds=[0,1]`` as two texts.

    Args:
        overrides: What ``--config`` gave.

    Returns:
        The same, with numbers and truth values in the place of texts that write them.

    Raises:
        ConfigError: If a text is not YAML.
    """
    if isinstance(overrides, Mapping):
        return {key: retyped(value) for key, value in overrides.items()}
    if isinstance(overrides, list):
        return [retyped(value) for value in overrides]
    try:
        return parse_yaml(overrides) if isinstance(overrides, str) else overrides
    except ConfigError as error:
        raise ConfigError(f"--config: {redacted(repr(overrides))} is not valid YAML: {redacted(str(error))}") from error


def parse_method(entry: str | Mapping[str, Any]) -> MethodConfig:
    """Check one method outside of a study.

    Args:
        entry: A criterion's name, or a mapping as in a study's ``methods``.

    Returns:
        The method, all options spelled out.

    Raises:
        ConfigError: If anything is not allowed; one line per mistake.
    """
    if not isinstance(entry, str | Mapping):
        raise ConfigError(f"method: got {entry!r}; allowed: a criterion's name, or a mapping with criterion")
    try:
        method = MethodConfig.model_validate(own_method(entry, {}))
    except ValidationError as error:
        raise ConfigError("\n".join(f"method: {line}" for line in explain(error, MethodConfig))) from error
    _check_parts(method)
    return _with_options(method, MethodDefaults())


def _check_names(study: Study) -> None:
    registry.check("data set", study.data.name, "data.name")
    for method in study.methods:
        _check_parts(method)
    for model in study.models:
        check_name(model.name, "models")


def _check_parts(method: MethodConfig) -> None:
    for kind in PARTS:
        registry.check(method.kind(kind), getattr(method, kind).name, f"methods.{method.name}.{kind}")


def _all_with_options(study: Study) -> list[SweepMethod]:
    """Check the options of all methods; every mistake is told."""
    methods, mistakes = [], []
    for method in study.methods:
        try:
            methods.append(_with_options(method, study.method_defaults))
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return methods


def _with_options(method: M, defaults: MethodDefaults) -> M:
    """Check a method's options and spell all of them out."""
    chosen = {}
    for kind in PARTS:
        choice: Choice = getattr(method, kind)
        entry = part(method.kind(kind), choice.name)
        if method.granularity == "weights" and not entry.for_weights():
            able = [name for name in registry.names(kind) if part(kind, name).for_weights()]
            raise ConfigError(
                f"methods.{method.name}.{kind}: {choice.name!r} does not go with granularity: weights; "
                f"allowed: {', '.join(able)}"
            )
        names = option_names(entry, method.granularity)
        shared = defaults.criterion if kind == "criterion" else {}
        given = {key: value for key, value in shared.items() if key in names}
        what = f"methods.{method.name}: {kind} {choice.name!r}"
        options = checked_options(entry, what, given | choice.options, method.granularity)
        chosen[kind] = Choice(name=choice.name, **options.model_dump(include={*names}))
    return method.model_copy(update=chosen)


def _check_copies(methods: Sequence[MethodConfig]) -> None:
    """Refuse methods whose widths would be those of no method, because none has the name or each copies the next."""
    copied = {method.name: method.allocation.options.get("method") for method in methods}
    for name, other in copied.items():
        where = f"methods.{name}.allocation.method"
        if other is not None and other not in copied:
            raise ConfigError(registry.unknown("method", other, where, [m for m in copied if m != name]))
        path = [name]
        while (other := copied.get(path[-1])) is not None and other not in path:
            path.append(other)
        if other == name:
            circle = " -> ".join([*path, name])
            raise ConfigError(f"{where}: {circle} is a circle; allowed: a method that copies none of these")


def _check_defaults(study: Study) -> None:
    """Refuse default options that no criterion of the study has."""
    have = {key for m in study.methods for key in option_names(part("criterion", m.criterion.name), m.granularity)}
    preset = PRESETS.get(study.preset or "", {}).get("method_defaults", {}).get("criterion", {})
    for key in study.method_defaults.criterion:
        if key not in have and key not in preset:
            raise ConfigError(
                f"method_defaults.criterion: no criterion of this study has an option {key!r}; "
                f"allowed: {', '.join(sorted(have)) or 'none'}"
            )


def dump_study(study: Study) -> dict[str, Any]:
    """Return a study as plain values that :func:`parse_study` reads back.

    Args:
        study: The study.

    Returns:
        All settings, defaults included.
    """
    return study.model_dump(mode="json", by_alias=True) | {"preset": None}
