"""The profiles name rules that exist, and retries are counted at one level."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from oba.dag import STAGES
from oba.jobs import TOGETHER

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_resources_are_those_of_rules(path):
    rules = {*STAGES, *(rule.name for rule in TOGETHER), "collect", "report"}
    assert yaml.safe_load(path.read_text())["set-resources"].keys() <= rules


def test_the_same_rules_ask_for_more_than_the_default_everywhere():
    wanted = [yaml.safe_load(path.read_text())["set-resources"].keys() for path in PROFILES]
    assert wanted[0] == wanted[1]


def test_memory_grows_with_every_attempt_on_a_cluster():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    asked = [profile["default-resources"], *profile["set-resources"].values()]
    assert all("attempt" in str(resources.get("mem_mb", "attempt")) for resources in asked)
    assert all("attempt" in resources["runtime"] for resources in asked)


def test_no_rule_has_retries_of_its_own():
    """A job on a cluster would run them inside of every retry of the profile."""
    texts = [path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]]
    assert not any(re.search(r"\bretries\b", text) for text in texts)


def test_every_key_of_the_cluster_is_explained():
    explained = False
    for line in (ROOT / "profiles/slurm/config.yaml").read_text().splitlines():
        if re.match(r"[a-z]", line):
            assert "#" in line or explained, line
        explained = line.startswith("#") or (explained and bool(line.strip()))
