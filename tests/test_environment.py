"""pyproject.toml, environment.yml and the lock speak of the same packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_conda_view_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python == "python" + project()["project"]["requires-python"]
    assert pip == "pip"
    assert packages["pip"] == project()["project"]["dependencies"]


def test_lock_pins_every_requirement_within_its_bounds():
    table = project()["project"]
    pinned: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, _, version = line.split(";")[0].strip().partition("==")
        assert version, f"not pinned: {line}"
        pinned.setdefault(name.lower().replace("_", "-"), []).append(version)
    for text in [*table["dependencies"], *table["optional-dependencies"]["dev"]]:
        need = Requirement(text)
        versions = pinned[need.name.lower()]
        assert all(need.specifier.contains(v, prereleases=True) for v in versions), f"{text}: locked {versions}"


def test_the_tests_have_what_exporting_needs():
    from oba.export.formats import NEEDED

    extras = project()["project"]["optional-dependencies"]
    assert set(extras["export"]) <= set(extras["dev"])
    assert {name for names in NEEDED.values() for name in names} == {
        Requirement(text).name for text in extras["export"]
    }


def test_the_tests_have_what_a_cluster_needs():
    extras = project()["project"]["optional-dependencies"]
    assert set(extras["slurm"]) <= set(extras["dev"])


def test_lock_holds_the_torch_pair_that_was_built_together():
    lock = (ROOT / "requirements.lock").read_text()
    pair = dict(re.findall(r"^(torch|torchvision)==(\S+)", lock, re.MULTILINE))
    wanted = dict(c.split("==") for c in project()["tool"]["uv"]["constraint-dependencies"])
    assert pair == wanted


def test_version_is_written_once_in_agreement():
    import oba

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert oba.__version__ == project()["project"]["version"] == citation["version"]
