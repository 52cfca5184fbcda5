# Coordinates, settings and digests that the rules share. What a stage reads, writes and sees is said in oba.dag:
# nothing is decided here.
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from oba.codedigest import stage_code
from oba.dag import STAGES
from oba.errors import ObaError
from oba.files import write_json
from oba.jobs import Jobs
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
from oba.resolving import resolve_study
from oba.stages.losses import find_lost
from oba.status.handler import LogHandler
from oba.study import dump_study, load_resolved, retyped
from oba.training.slots import visible_gpus
from oba.validate import quick_check

on_cluster = workflow.resource_settings.nodes is not None
try:
    update_config(config, retyped(workflow.config_settings.config))
    if workflow.is_main_process:
        study = resolve_study(config, "study")
        quick_check(study, local=not on_cluster)
    else:  # a single job on a cluster reads what the run that submitted it has checked
        study = load_resolved(Layout(config["experiment"]).study)
except ObaError as error:
    raise WorkflowError(str(error))

layout = Layout(study.experiment)
jobs = Jobs(study, layout)
# What shows the run, where it was started by `oba run`.
displays = [
    handler
    for handler in getattr(workflow.logger_manager, "plugin_handlers", ())
    if isinstance(handler, LogHandler)
]
for display in displays:
    display.know(jobs, cluster=on_cluster)
methods = [*(method.name for method in study.methods), DENSE_LONGER]
# One GPU job for each GPU of this machine, unless --resources gpu=N says otherwise or a cluster counts its own.
if "gpu" not in workflow.global_resources and not on_cluster:
    if visible := visible_gpus():
        workflow.register_resource("gpu", visible)
# Jobs find `oba` beside the interpreter that runs Snakemake, activated or not.
shell.prefix(
    "command -v oba > /dev/null || "
    f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
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


def pattern(of):
    """Return the coordinates of all jobs of a rule: wildcards."""
    return Coordinates(**{axis: f"{{{axis}}}" for axis in of.axes})


def of_job(of, value):
    """Return a function of wildcards: what a function of coordinates says of a job."""
    return lambda wildcards: value(coordinates(wildcards))


def inputs(of):
    """Return a function of wildcards: the files that a job reads, and those that only have to be there."""

    def files(wildcards):
        at = coordinates(wildcards)
        # Snakemake does not look at a job all of whose links to one that runs are ancient: each needs another link.
        after = {name: ancient(paths) for name, paths in jobs.after(of, at).items()}
        return {**jobs.reads(of, at), **after}

    return files


def of_nets(*names):
    """Return a function of wildcards: files of all nets; a single job on a cluster need not list them."""
    return lambda wildcards: jobs.asked(
        layout.net(net) / name for net in nets(study) for name in names
    )


def seen(of):
    """Return what else a rule depends on, such as the files of the data set; single jobs need not look again."""
    try:
        return jobs.sees(of) if workflow.is_main_process else ""
    except ObaError as error:
        raise WorkflowError(str(error))


def per_stage(section, stage):
    """Return a stage's number of threads or GPUs; a job on several has the threads once for each."""
    return getattr(getattr(study, section), stage.kind, 1)


def most(of, number):
    """Return the largest number that a stage of a rule wants."""
    return max(map(number, of.stages))


def overlooked(wildcards):
    """Have Snakemake look at what it would not: what finished jobs left and is lost, and what it cannot judge."""
    if not workflow.is_main_process:
        return []
    workflow.dag.forcerules.update(map(workflow.get_rule, jobs.doubtful()))
    runs = workflow.executor_plugin and not workflow.dryrun and not workflow.touch
    try:
        lost = jobs.asked(find_lost(study, layout, repair=bool(runs)))
    except ObaError as error:
        raise WorkflowError(str(error))
    workflow.dag.forcefiles.update(map(str, lost))
    return lost


def validate_nets(needed):
    """Try the nets and methods of a study before its first job, where any job would meet them."""
    if not any(job.rule.name in {"trace", "dense", "prune", "level"} for job in needed):
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


def leave_terminal():
    """Have the display, if there is one, leave the terminal to what is printed next; tell whether the user stopped it."""
    for display in displays:
        display.settle(workflow.logger_manager)
    return any(display.interrupted for display in displays)
