"""A study whose jobs, Snakemake and process group are killed dozens of times ends like one that nothing happened to."""

from __future__ import annotations

import random
import shutil

import pytest
from books import unlike
from storm import SIGNALS, STAGES, STUDY, VICTIMS, Storm, stages, table, write_study

SEED = 0


@pytest.mark.slow
def test_forty_kills_change_nothing(project, tmp_path_factory):
    write_study(project.root)
    calm = shutil.copytree(project.root, tmp_path_factory.mktemp("calm") / "project")
    lives = Storm(calm, type(project)(calm).environment).calm()
    assert stages(lives) >= STAGES
    storm = Storm(project.root, project.environment)
    storm.rage(lives, each=7, rng=random.Random(SEED), enough=40)
    print(f"seed {SEED}", table(storm.hits), sep="\n")
    assert unlike(calm, project.root, STUDY["experiment"]) == []
    assert storm.unprovoked == []
    assert len(storm.hits) >= 40
    assert stages(hit.stage for hit in storm.hits) >= STAGES
    assert {hit.victim for hit in storm.hits} == set(VICTIMS)
    assert {hit.signal for hit in storm.hits} == set(SIGNALS)
