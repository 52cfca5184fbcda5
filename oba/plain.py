"""YAML of strangers: plain values only, no key twice, and none that grows when its aliases are followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from oba.errors import ConfigError

MOST_VALUES = 100_000
"""Values that a study may hold, those behind aliases counted as often as they are used."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of several equal keys win, without that."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        written = [key.value for key in keys]
        for position, key in enumerate(keys):
            if key.value in written[:position]:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Read YAML.

    Args:
        text: One document.

    Returns:
        Plain values.

    Raises:
        ConfigError: If it is not YAML, nested too deeply, or has a key twice; the reason alone, in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{error.problem}{where}") from error
    except RecursionError as error:
        raise ConfigError("nested too deeply") from error
    # Besides its own errors, PyYAML raises whatever it meets where a text is no number, date or truth value.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"a value cannot be read: {' '.join(str(error).split())}") from error


def check_size(values: Any) -> None:
    """Refuse values that are too many, as a few lines of aliases of aliases can be, or that hold themselves.

    Args:
        values: Plain values.

    Raises:
        ConfigError: If there are more than :data:`MOST_VALUES`.
    """
    waiting, count = [values], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise ConfigError(f"more than {MOST_VALUES:,} values, aliases followed; allowed: no aliases of aliases")
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
