"""What Snakemake's catalogue, containers and editors look for is there and says what is true."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def test_the_catalogue_is_told_how_the_workflow_is_deployed():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    deployment = usage["software-stack-deployment"]
    assert {name for name, works in deployment.items() if works} == {"conda"}
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert rules.count('"../../environment.yml"') == rules.count("conda:") > 0
    assert usage["report"] == ("report(" in rules)
    assert all(part in usage["mandatory-flags"]["desc"] for part in ("make setup", "requirements.lock", "--no-deps"))


def test_every_study_is_listed_beside_the_studies():
    listed = (ROOT / "config/README.md").read_text()
    assert all(f"`{path.name}`" in listed for path in (ROOT / "config").glob("*.yaml"))
    for target in re.findall(r"\]\(([^)#]+)\)", listed):
        assert (ROOT / "config" / target).exists(), target


def test_the_container_is_built_as_make_setup_installs():
    text = (ROOT / "Dockerfile").read_text()
    tag = re.search(r"^FROM python:([\d.]+)", text, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tag
    assert f"{tag[1]}.0" in SpecifierSet(project["requires-python"])
    installed = re.findall(r"(?:-r \S+|--no-deps --editable \.)", text)
    assert installed == re.findall(r"(?:-r \S+|--no-deps --editable \.)", (ROOT / "Makefile").read_text())
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    assert (ROOT / re.search(r"run (config/\S+)", text)[1]).is_file()


def test_the_container_is_given_nothing_that_git_leaves_out():
    left_out = (ROOT / ".dockerignore").read_text().split()
    for line in (ROOT / ".gitignore").read_text().split():
        name = line.strip("/")
        if not line.startswith("!") and name != "*.egg-info":
            assert any(fnmatch(name, pattern.removeprefix("**/")) for pattern in left_out), line
