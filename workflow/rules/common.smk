# Coordinates, paths and digests that the rules share. Paths come from oba.layout, settings and
# their slices from oba.sections: nothing is decided here.
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from oba.codedigest import stage_code
from oba.sections import STAGES
from oba.errors import ObaError
from oba.files import write_json
from oba.layout import (
    DENSE_LONGER,
    NET_FILES,
    TRAINED_FILES,
    Cell,
    Layout,
    cells,
    level_name,
    models_by_slug,
    start_of,
)
from oba.locks import remember_host
from oba.study import dump_study, parse_study, retyped

update_config(config, retyped(workflow.config_settings.config))
try:
    study = parse_study(config, "study")
except ObaError as error:
    raise WorkflowError(str(error))

layout = Layout(study.experiment)
# Jobs find `oba` beside the interpreter that runs Snakemake, activated or not.
shell.prefix(
    f'command -v oba > /dev/null || export PATH="{Path(sys.executable).parent}:$PATH"; '
)
gpus = 0 if study.runtime.device == "cpu" else 1
environment = workflow.source_path("../../environment.yml")


wildcard_constraints:
    model="|".join(re.escape(slug) for slug in models_by_slug(study)),
    seed=r"\d+",
    criterion="|".join(re.escape(name) for name in [*study.criteria, DENSE_LONGER]),
    schedule="iterative|oneshot",
    keep=r"0\.\d\d",
    variant="finetuned|scratch",


def cell_of(wildcards):
    """Return a job's coordinates."""
    known = dict(wildcards.items())
    if "seed" in known:
        known["seed"] = int(known["seed"])
    return Cell(**known)


def settings(stage):
    """Return the slice of the study that a stage sees, as text: a change of it reruns the stage."""
    sections = STAGES[stage].of(study)
    return json.dumps(sections.model_dump(mode="json", by_alias=True), sort_keys=True)


def code(stage):
    """Return a function of wildcards: the digest of the code that a job's result depends on."""

    def digest(wildcards):
        known = dict(wildcards.items())
        model = models_by_slug(study).get(known.get("model"), "")
        return stage_code(study, stage, model, known.get("criterion", ""))

    return digest


def start_files(wildcards):
    """Return the net that a level starts from."""
    start = start_of(study, layout, cell_of(wildcards))
    return [start / name for name in NET_FILES[:3]]


def log_of(path):
    """Return the log file of a job, named like its main output."""
    return layout.root / "logs" / path.relative_to(layout.root).with_suffix(".log")


def times_of(path):
    """Return the file in which Snakemake keeps a job's time and memory."""
    return (
        layout.root / "benchmarks" / path.relative_to(layout.root).with_suffix(".tsv")
    )


split_file = layout.split("{seed}")
structures_file = layout.structures("{model}")
dense_dir = layout.dense("{model}", "{seed}")
chain_dir = layout.chain("{model}", "{seed}", "{criterion}", "{schedule}")
level_dir = chain_dir / "keep{keep}"
