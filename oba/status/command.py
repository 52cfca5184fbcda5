"""``oba status``: how far a sweep is, once or again and again."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oba.errors import ConfigError
from oba.layout import RESULTS, Layout

if TYPE_CHECKING:
    from rich.console import Console

    from oba.status.draw import Drawing
    from oba.status.survey import Survey, Sweep

FINISHED, GOES_ON, ENDED = 0, 16, 17
"""Exit codes: every job is done; some are not, and a run lives; some are not, and nothing runs."""
_EVERY = 3.0
"""Seconds between two looks, at least."""
_SHARE = 0.2
"""Part of the time that looking may take."""
_WIDE = 1000
"""Columns of what is no terminal: lines are not broken there."""
_HELP = f"""Say how far a sweep is: each stage, chain and level, what runs, what failed and why, and the time left.

Read from files alone, so also of a run that is dead or works elsewhere. Exit code: {FINISHED} all is done, {GOES_ON}
unfinished and a run lives, {ENDED} unfinished and nothing runs."""


def add_status(app: typer.Typer) -> None:
    """Make the command.

    Args:
        app: The command line.
    """
    app.command(name="status", help=_HELP)(status)


def status(
    study: Annotated[
        str, typer.Argument(help="Study file, or an experiment's name; without it, the study of the last run here.")
    ] = "",
    all_chains: Annotated[bool, typer.Option("--all", help="Every chain, also of large sweeps.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every few seconds, until the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: every job with state and note.")] = False,
) -> None:
    """Say how far a sweep is, and end with the code of that."""
    from rich.console import Console

    from oba.status.draw import Drawing
    from oba.status.survey import Survey
    from oba.study import load_resolved

    resolved = find_resolved(study)
    survey = Survey(loaded := load_resolved(resolved), Layout(loaded.experiment), Path.cwd())
    sweep = survey.look()
    if as_json:
        typer.echo(json.dumps(as_values(sweep), indent=1))
        raise typer.Exit(code_of(sweep))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_WIDE)
    drawing = Drawing(console, all_chains=all_chains)
    if watch and console.is_terminal:
        sweep = _watch(survey, sweep, drawing, console)
    elif watch:
        raise ConfigError("--watch: the output is no terminal; allowed: `oba status` without it, again and again")
    console.print(drawing.draw(sweep))
    raise typer.Exit(code_of(sweep))


def _watch(survey: Survey, sweep: Sweep, drawing: Drawing, console: Console) -> Sweep:
    """Draw a sweep in place until it ends, or Ctrl-C; return the last look."""
    from rich.live import Live

    took = 0.0
    try:
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
            while sweep.alive:
                live.update(drawing.draw(sweep, height=console.height), refresh=True)
                time.sleep(max(_EVERY, took / _SHARE))
                started = time.monotonic()
                sweep = survey.look()
                took = time.monotonic() - started
    except KeyboardInterrupt:
        pass  # the usual way to leave; the last look is printed
    return sweep


def find_resolved(study: str) -> Path:
    """Return the resolved study of an experiment.

    Args:
        study: A study file (YAML, or ``study.json``), an experiment's name, or nothing for the last run here.

    Returns:
        ``study.json``, as it was when the last run began.

    Raises:
        ConfigError: If there is no such file or experiment, or no run of it yet.
    """
    from oba.recover import last_run
    from oba.study import read_study

    if not study:
        note = last_run(Path.cwd())
        path = Path(note.study) if note else Path("config/config.yaml")
        if note and path.exists():
            return path
        study = str(path) if path.exists() else ""
        if not study:
            raise ConfigError("no run was started here; allowed: `oba status STUDY`, where STUDY is a file or a name")
    path = Path(study)
    if path.suffix == ".json" and path.exists():
        return path
    name = study
    if path.exists() and not path.is_dir():
        values = read_study(path)
        name = str(values.get("experiment", "")) if isinstance(values, dict) else ""
    resolved = RESULTS / name / "study.json"
    if not resolved.exists():
        raise ConfigError(f"{study}: no run of it was started here ({resolved} is not there); allowed: `oba run` first")
    return resolved


def code_of(sweep: Sweep) -> int:
    """Return the exit code that says how a sweep is."""
    if sweep.finished:
        return FINISHED
    return GOES_ON if sweep.alive else ENDED


def as_values(sweep: Sweep) -> dict[str, Any]:
    """Return a sweep as plain values.

    Args:
        sweep: The sweep.

    Returns:
        Its figures, and under ``jobs`` every job.
    """
    from oba.status.cells import State

    jobs = []
    for cell in sweep.cells:
        values = asdict(cell) | {"state": cell.state.value, "log": str(cell.log)}
        values["at"] = cell.at.given()
        jobs.append({key: value for key, value in values.items() if value not in ("", None)})
    counts = {state.value: sweep.count(state) for state in State}
    facts = {"experiment": sweep.experiment, "finished": sweep.finished, "alive": sweep.alive}
    return facts | {"seconds_left": sweep.left, "counts": counts, "jobs": jobs}
