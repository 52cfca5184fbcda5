# Coordinates, settings and digests that the rules share. What a stage reads, writes and sees is said in oba.dag:
# nothing is decided here.
import json
import re
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from oba.codedigest import stage_code
from oba.dag import STAGES
from oba.errors import ObaError
from oba.files import write_json
from oba.layout import (
    DENSE_LONGER,
    Coordinates,
    Layout,
    first_methods,
    models_by_slug,
    nets,
)
from oba.locks import remember_host
from oba.recover import remember_run
from oba.study import dump_study, parse_study, retyped
from oba.training.slots import visible_gpus
from oba.validate import quick_check

on_cluster = workflow.resource_settings.nodes is not None
try:
    update_config(config, retyped(workflow.config_settings.config))
    study = parse_study(config, "study")
    if workflow.is_main_process:
        quick_check(study, local=not on_cluster)
except ObaError as error:
    raise WorkflowError(str(error))

layout = Layout(study.experiment)
methods = [*(method.name for method in study.methods), DENSE_LONGER]
# One GPU job for each GPU of this machine, unless --resources gpu=N says otherwise or a cluster counts its own.
if "gpu" not in workflow.global_resources and not on_cluster:
    if visible := visible_gpus():
        workflow.register_resource("gpu", visible)
# Jobs find `oba` beside the interpreter that runs Snakemake, activated or not.
shell.prefix(
    f'command -v oba > /dev/null || export PATH="{Path(sys.executable).parent}:$PATH"; '
)


wildcard_constraints:
    model="|".join(re.escape(slug) for slug in models_by_slug(study)),
    seed=r"\d+",
    method="|".join(map(re.escape, methods)),
    schedule="iterative|oneshot",
    keep=r"0\.\d\d",
    variant="finetuned|scratch",


def coordinates(wildcards):
    """Return a job's coordinates."""
    known = dict(wildcards.items())
    if "seed" in known:
        known["seed"] = int(known["seed"])
    return Coordinates(**known)


def pattern(stage):
    """Return the coordinates of all jobs of a stage: wildcards."""
    return Coordinates(**{axis: f"{{{axis}}}" for axis in stage.axes})


def inputs(stage):
    """Return a function of wildcards: the files that a job reads, and those that only have to be there."""

    def files(wildcards):
        at = coordinates(wildcards)
        # Snakemake does not look at a job all of whose links to one that runs are ancient: each needs another link.
        after = stage.after(study, layout, at).items()
        return {**stage.reads(study, layout, at), **{k: ancient(v) for k, v in after}}

    return files


def settings(stage):
    """Return a function of wildcards: the slice of the study that a job sees; a change of it reruns the job."""

    def text(wildcards):
        sections = stage.sections.of(study, coordinates(wildcards))
        return json.dumps(
            sections.model_dump(mode="json", by_alias=True), sort_keys=True
        )

    return text


def code(stage):
    """Return a function of wildcards: the digest of the code that a job's result depends on."""
    return lambda wildcards: stage_code(
        stage.module, stage.roots(study, coordinates(wildcards))
    )


def seen(stage):
    """Return what else a stage depends on, such as the files of the data set; single jobs need not look again."""
    try:
        return stage.sees(study, layout) if workflow.is_main_process else ""
    except ObaError as error:
        raise WorkflowError(str(error))


def options(stage):
    """Return a function of wildcards: a job's options on the command line."""
    variant = "" if "variant" in stage.axes or stage.module != "evaluate" else "dense"

    def text(wildcards):
        at = coordinates(wildcards)
        return stage.options(at) + (f" --variant {variant}" if variant else "")

    return text


def per_stage(section, stage):
    """Return a stage's number of threads or GPUs; a job on several has the threads once for each."""
    return getattr(section, stage.kind, 1)


def validate_nets(jobs):
    """Try the nets and methods of a study before its first job, where any job would meet them."""
    if not any(job.rule.name in {"trace", "dense", "prune"} for job in jobs):
        return
    command = [sys.executable, "-m", "oba", "validate", layout.study]
    if on_cluster:
        command.append("--cluster")
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise WorkflowError("\n".join(line.removeprefix("error: ") for line in lines))


def log_of(path):
    """Return the log file of a job, named like its main output."""
    return layout.log(path)


def times_of(path):
    """Return the file in which Snakemake keeps a job's time and memory."""
    return (
        layout.root / "benchmarks" / path.relative_to(layout.root).with_suffix(".tsv")
    )
