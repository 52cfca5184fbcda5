"""Options are declared beside the code that has them, found through generics, and refused in one line."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from oba import registry
from oba.errors import ConfigError
from oba.importance.criterion import Criterion
from oba.options import Configured, O, Options, checked_options, part
from oba.pruning.cut import Update
from oba.pruning.problem import Allocation

KINDS = {"criterion": Criterion, "allocation": Allocation, "update": Update}


class Mine(Options):
    """Options of an entry."""

    width: Annotated[int, Field(ge=1)] = 2
    kind: Literal["a", "b"] = "a"

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.kind == "b" and self.width > 2:
            raise ValueError("kind 'b' is at most 2 wide")
        return self


class More(Mine):
    """Options of an entry that has a few more."""

    depth: int = 0


class Between(Configured[O], Generic[O]):
    """A family of entries."""


class Own(Configured[Mine]):
    """An entry."""


class OfFamily(Between[More]):
    """An entry of the family."""


class Inherits(OfFamily):
    """An entry that changes nothing of its options."""


class Plain(Between[Options]):
    """An entry without options."""


@pytest.mark.parametrize(
    ("entry", "options"),
    [(Own, Mine), (OfFamily, More), (Inherits, More), (Plain, Options), (Between, Options)],
)
def test_the_options_of_an_entry_are_those_it_is_generic_in(entry, options):
    assert entry.options_type is options


def test_an_entry_is_named_by_its_file():
    assert Own(Mine()).name == "test-options"
    assert part("allocation", "global")(Options()).name == "global"
    assert part("criterion", "oba-exact").__module__.endswith("oba_exact")


def test_options_are_filled_in_and_given_ones_count():
    assert checked_options(Own, "entry 'own'", {"width": 1}) == Mine(width=1, kind="a")
    assert checked_options(Inherits, "entry 'own'", {"depth": 3, "kind": "b"}) == More(kind="b", depth=3)
    assert checked_options(Plain, "entry 'plain'", {}) == Options()


def test_numbers_may_be_inscientific_notation():
    """YAML 1.1 takes ``1e-3`` for text."""
    damped = part("update", "least-squares")
    assert checked_options(damped, "u", {"damping": "1e-3"}) == checked_options(damped, "u", {"damping": 1e-3})
    for value in ("inf", "nan", "a lot"):
        with pytest.raises(ConfigError, match=f"u: damping: got '?{value}'?; allowed: a (finite|valid) number"):
            checked_options(damped, "u", {"damping": value})


def test_options_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Mine().width = 3


@pytest.mark.parametrize(
    ("entry", "given", "lines"),
    [
        (Own, {"depth": 1}, ["e 'x' has no option 'depth'; allowed: width, kind"]),
        (Own, {"depth": 1, "height": 2}, ["e 'x' has no option 'depth', 'height'; allowed: width, kind"]),
        (Plain, {"width": 1}, ["e 'x' has no option 'width'; allowed: none"]),
        (Own, {"width": 0}, ["e 'x': width: got 0; allowed: greater than or equal to 1"]),
        (Own, {"width": "2"}, ["e 'x': width: got '2'; allowed: a valid integer"]),
        (Own, {"width": True, "kind": "c"}, ["e 'x': width: got True; ", "e 'x': kind: got 'c'; allowed: 'a' or 'b'"]),
        (Own, {"width": 3, "kind": "b"}, ["e 'x': kind 'b' is at most 2 wide"]),
    ],
)
def test_what_an_entry_cannot_have_is_refused_in_one_line_each(entry, given, lines):
    with pytest.raises(ConfigError) as caught:
        checked_options(entry, "e 'x'", given)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in registry.names(kind)])
def test_registered_entries_explain_every_option(kind, name):
    entry = part(kind, name)
    assert issubclass(entry, KINDS[kind])
    assert issubclass(entry.options_type, Options)
    for key, field in entry.options_type.model_fields.items():
        assert field.description, f"{kind} {name}: {key} has no docstring"
        assert key != "name", "an entry's name stands beside its options"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_entries_are_refused_with_the_nearest_one(kind):
    name = registry.names(kind)[0]
    with pytest.raises(ConfigError, match=rf"^{kind}: unknown {kind} '{name}x' \(did you mean '{name}'\?\); allowed: "):
        part(kind, f"{name}x")
