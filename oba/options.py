"""Options that an entry of a registry declares beside its code, and what such entries share.

A criterion, an allocation or an update is a class that is generic in its own options::

    class MagnitudeOptions(Options):
        magnitude: Literal["l1", "l2"] = "l1"

    class Magnitude(Criterion[MagnitudeOptions]): ...

A study may give an entry exactly the options that its class declares; anything else is refused with their list.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import ValidationError

from oba import registry
from oba.errors import ConfigError
from oba.section import Section


class Options(Section):
    """Options of an entry: none, unless a subclass declares some."""


O = TypeVar("O", bound=Options)  # noqa: E741


@dataclass(frozen=True)
class For:
    """Marks an option that only methods of one granularity have: ``Annotated[bool, For("weights")]``."""

    granularity: str


class Configured(Generic[O]):
    """An entry of a registry: a class that is made with its own options.

    Attributes:
        options_type: The class of its options, read off the type argument of its base.
    """

    options_type: ClassVar[type[Options]] = Options

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Find the class of the options."""
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in typing.get_args(base):
                if isinstance(argument, type) and issubclass(argument, Options):
                    cls.options_type = argument

    def __init__(self, options: O) -> None:
        """Take the options.

        Args:
            options: Of the class that the entry declares.
        """
        self.options = options

    @classmethod
    def for_weights(cls) -> bool:
        """Tell whether methods of which single weights go may have this entry."""
        return False

    @property
    def name(self) -> str:
        """The registered name: that of the file."""
        return type(self).__module__.rpartition(".")[2].rstrip("_").replace("_", "-")


def part(kind: str, name: str) -> type[Configured]:
    """Import the class of a part of a method.

    Args:
        kind: ``"criterion"``, ``"allocation"``, ``"weight allocation"`` or ``"update"``.
        name: A registered name.

    Returns:
        The class.
    """
    return cast("type[Configured]", registry.entry(kind, name))


def option_names(entry: type[Configured], granularity: str | None = None) -> list[str]:
    """Return the options that an entry has.

    Args:
        entry: The entry's class.
        granularity: That of the method; options for another are left out. Without it all are returned.

    Returns:
        Names, in the order of declaration.
    """
    return [
        name
        for name, field in entry.options_type.model_fields.items()
        if granularity is None
        or all(mark.granularity == granularity for mark in field.metadata if isinstance(mark, For))
    ]


def checked_options(
    entry: type[Configured], what: str, values: Mapping[str, Any], granularity: str | None = None
) -> Options:
    """Check options for an entry.

    Args:
        entry: The entry's class.
        what: How to call the entry in messages, such as ``criterion 'oba'``.
        values: The options that are given.
        granularity: That of the method; options for another are refused.

    Returns:
        All options, defaults included.

    Raises:
        ConfigError: If the entry has no such option, or it cannot have such a value; one line for each mistake.
    """
    names = option_names(entry, granularity)
    if unknown := [key for key in values if key not in names]:
        where = f" with granularity: {granularity}" if any(key in option_names(entry) for key in unknown) else ""
        raise ConfigError(
            f"{what} has no option {', '.join(map(repr, unknown))}{where}; allowed: {', '.join(names) or 'none'}"
        )
    try:
        return entry.options_type.model_validate(dict(values))
    except ValidationError as error:
        lines = []
        for finding in error.errors():
            key = ".".join(map(str, finding["loc"]))
            message = finding["msg"].removeprefix("Value error, ").replace("Input should be ", "allowed: ")
            given = "" if finding["type"] == "value_error" else f"got {finding['input']!r}; "
            lines.append(f"{what}: {f'{key}: ' if key else ''}{given}{message}")
        raise ConfigError("\n".join(lines)) from error
