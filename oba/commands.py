"""The commands of jobs: one for each stage, and one for each group of stages that run together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oba.config import Study
from oba.dag import STAGES, stage_of
from oba.errors import ConfigError
from oba.jobs import TOGETHER, Rule
from oba.layout import Coordinates, require_job
from oba.signals import listen
from oba.study import load_resolved, load_study

PANEL = "Stages (Snakemake calls them)"
StudyFile = Annotated[
    Path, typer.Option("--study", help="Study file (YAML), or the resolved study.json of an experiment.")
]


def read_any_study(path: Path) -> Study:
    """Read a study file, or a resolved study, which needs no imports to be checked again.

    Args:
        path: A file that ends with ``.json`` is a resolved study.

    Returns:
        The study.
    """
    return load_resolved(path) if path.suffix == ".json" else load_study(path)


def add_jobs(app: typer.Typer) -> None:
    """Make the commands of all jobs; what a stage imports is loaded when it runs.

    Args:
        app: The command line.
    """
    for command in dict.fromkeys(stage.module for stage in STAGES.values()):
        _add(app, command, _summary(command))
    for rule in TOGETHER:
        _add(app, rule.command, "These stages in one process, with `job_per: level`.", rule)


def _add(app: typer.Typer, command: str, summary: str, together: Rule | None = None) -> None:
    def run(
        study: StudyFile,
        model: Annotated[str, typer.Option(help="Model as paths write it.")] = "",
        seed: Annotated[int | None, typer.Option(help="Seed of the sweep.")] = None,
        method: Annotated[str, typer.Option(help="Method, or dense-longer.")] = "",
        schedule: Annotated[str, typer.Option(help="iterative or oneshot.")] = "",
        keep: Annotated[str, typer.Option(help="Level, two decimals.")] = "",
        variant: Annotated[str, typer.Option(help="dense, finetuned or scratch.")] = "",
    ) -> None:
        listen()
        at = Coordinates(model, seed, method, schedule, keep, variant)
        needed = [axis for axis in (together or stage_of(command, at)).axes if axis not in at.given()]
        if needed:
            raise ConfigError(f"{command}: missing {', '.join(f'--{axis}' for axis in needed)}")
        loaded = read_any_study(study)
        require_job(loaded, at)
        if together:
            from oba.stages.together import execute_together

            execute_together(together, loaded, at, source=study)
        else:
            from oba.stages.job import execute

            execute(command, loaded, at, source=study)

    app.command(name=command, help=summary, rich_help_panel=PANEL)(run)


def _summary(command: str) -> str:
    """Return what the module of a stage says of it."""
    module = Path(__file__).with_name("stages") / f"{command}.py"
    summary = module.read_text(encoding="utf-8").split('"""')[1].split(": ", 1)[1]
    return summary[0].upper() + summary[1:]
