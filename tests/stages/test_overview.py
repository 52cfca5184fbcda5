"""The facts of a sweep that the report's page shows."""

from __future__ import annotations

import json

from oba.dag import STAGES
from oba.layout import Coordinates, Layout
from oba.stages.overview import facts_of


def test_every_job_is_there_and_stages_follow_from_what_they_read(study, tmp_path):
    layout = Layout("tiny", tmp_path)
    facts = facts_of(study(seeds=[0, 1], controls=["scratch"]), layout)
    assert {stage.name: (len(stage.jobs), stage.after) for stage in facts.stages} == {
        "prepare": (1, []),
        "split": (2, ["prepare"]),
        "trace": (1, ["prepare"]),
        "dense": (2, ["prepare", "split"]),
        "evaluate_dense": (2, ["prepare", "split", "dense"]),
        "prune": (4, ["prepare", "split", "trace", "dense", "finetune"]),
        "finetune": (4, ["prepare", "split", "prune"]),
        "scratch": (4, ["prepare", "split", "prune", "finetune"]),
        "evaluate": (8, ["prepare", "split", "evaluate_dense", "finetune", "scratch"]),
    }
    assert facts.data == {}
    assert facts.settings["experiment"] == "tiny"


def test_jobs_lead_to_their_records_and_benchmarks(study, tmp_path):
    layout = Layout("tiny", tmp_path)
    layout.data.mkdir(parents=True)
    (layout.data / "data.json").write_text(json.dumps({"name": "digits"}))
    for job_per, suffix in (("stage", ".tsv"), ("level", None)):
        facts = facts_of(study(job_per=job_per), layout)
        prune = next(stage for stage in facts.stages if stage.name == "prune").jobs[0]
        at = Coordinates("resnet8", 0, "taylor", "iterative", "0.60")
        assert prune.record == STAGES["prune"].record(layout, at)
        assert prune.method == "taylor"
        assert (prune.benchmark.suffix if prune.benchmark else None) == suffix
        assert facts.data == {"name": "digits"}
