"""Whatever a study file says, it is a study or refused in lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from oba.errors import ConfigError, FileError
from oba.plain import parse_yaml
from oba.study import dump_study, load_resolved, load_study, parse_study, retyped

CONFIG = Path(__file__).parents[2] / "config"
STUDIES = {path: yaml.safe_load(path.read_text()) for path in sorted(CONFIG.rglob("*.yaml"))}
# Models of libraries are left out: importing those takes seconds.
OWN = [path for path, values in STUDIES.items() if "models" in values and "/" not in str(values["models"])]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=8
)
KEYS = ["experiment", "data", "models", "seeds", "methods", "keep", "dense", "finetune", "method_defaults", "runtime"]
SIGNS = "[]{}:-?,&*!|>'\"%@`#=~<0123456789eE.+_ \nab"
Damaged = Callable[[Any], st.SearchStrategy[Any]]
Refusal = Callable[[Callable[[], object]], tuple[type, str] | None]


def check(refusal: Refusal, values: Any) -> bool:
    """Return whether values are a study, which reads back the same; if not, the reason must be lines of their own."""
    if refused := refusal(lambda: parse_study(values, "study")):
        assert refused[0] is ConfigError
        assert all(line.startswith("study: ") for line in refused[1].split("\n"))
        return False
    study = parse_study(values, "study")
    assert parse_study(json.loads(json.dumps(dump_study(study))), "study") == study.model_copy(update={"preset": None})
    return True


def test_there_are_files_to_damage(refusal: Refusal) -> None:
    assert len(OWN) > 5
    assert all(check(refusal, STUDIES[path]) for path in OWN[:3])


@given(data=st.data(), path=st.sampled_from(OWN))
def test_damaged_values(damaged_values: Damaged, refusal: Refusal, data: st.DataObject, path: Path) -> None:
    check(refusal, data.draw(damaged_values(STUDIES[path])))


@given(values=VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_values(refusal: Refusal, values: Any) -> None:
    assert not check(refusal, values)


@given(data=st.data(), path=st.sampled_from(OWN))
def test_damaged_files(damaged_bytes: Damaged, refusal: Refusal, place: Path, data: st.DataObject, path: Path) -> None:
    damaged = place / "damaged.yaml"
    damaged.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    if refused := refusal(lambda: load_study(damaged)):
        assert refused[0] in {ConfigError, FileError}
        assert all(line.startswith(f"{damaged}: ") for line in refused[1].split("\n"))


@given(text=st.text() | st.text(SIGNS, max_size=60))
@example(text="{" * 3000)
@example(text="!!float .")
@example(text="&a [*a]")
def test_any_text(refusal: Refusal, text: str) -> None:
    if refused := refusal(lambda: parse_yaml(text)):
        assert refused[0] is ConfigError
        assert "\n" not in refused[1]
    else:
        assert not check(refusal, parse_yaml(text))
    if refused := refusal(lambda: retyped({"seeds": [text]})):
        assert refused[1].startswith("--config: ")


@pytest.mark.parametrize("path", OWN[:2], ids=lambda path: path.stem)
@given(data=st.data())
def test_damaged_resolved_studies(
    damaged_values: Damaged, damaged_bytes: Damaged, refusal: Refusal, place: Path, data: st.DataObject, path: Path
) -> None:
    damaged, resolved = place / "study.json", dump_study(parse_study(STUDIES[path], "study"))
    if data.draw(st.booleans()):
        damaged.write_text(json.dumps(data.draw(damaged_values(resolved)), skipkeys=True))
    else:
        damaged.write_bytes(data.draw(damaged_bytes(json.dumps(resolved).encode())))
    if refused := refusal(lambda: load_resolved(damaged)):
        assert refused[0] is FileError
        assert refused[1].startswith(f"{damaged}: ")
        assert "\n" not in refused[1]
