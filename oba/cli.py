"""The command line: one command per stage of the DAG, and a few for people."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from oba.config import Study
from oba.errors import ObaError, TrackingError
from oba.files import write_text
from oba.layout import RESULTS, Cell, Layout, cells
from oba.study import load_study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prune image classifiers with Optimal Brain Apoptosis. Run a whole study with `snakemake --cores all`.",
)

bench = typer.Typer(no_args_is_help=True, help="Measure what things cost.")
app.add_typer(bench, name="bench")

StudyFile = Annotated[
    Path, typer.Option("--study", help="Study file (YAML), or the resolved study.json of an experiment.")
]
Model = Annotated[str, typer.Option(help="Model as paths write it.")]
Seed = Annotated[int, typer.Option(help="Seed of the sweep.")]
Criterion = Annotated[str, typer.Option(help="Criterion, or dense-longer.")]
Schedule = Annotated[str, typer.Option(help="iterative or oneshot.")]
Keep = Annotated[str, typer.Option(help="Level, two decimals.")]
Variant = Annotated[str, typer.Option(help="dense, finetuned or scratch.")]
STAGES = "Stages (Snakemake calls them)"


def _run(stage: str, study: Path, cell: Cell) -> None:
    """Run a stage; its module, and what it imports, is loaded now and not before."""
    import_module(f"oba.stages.{stage}").run(load_study(study), cell)


@app.command(rich_help_panel=STAGES)
def prepare(study: StudyFile) -> None:
    """Read the data set once."""
    _run("prepare", study, Cell())


@app.command(rich_help_panel=STAGES)
def split(study: StudyFile, seed: Seed) -> None:
    """Divide the images by the seed."""
    _run("split", study, Cell(seed=seed))


@app.command(rich_help_panel=STAGES)
def structures(study: StudyFile, model: Model) -> None:
    """Find what may be removed from an architecture."""
    _run("structures", study, Cell(model=model))


@app.command(rich_help_panel=STAGES)
def check(study: StudyFile, model: Model) -> None:
    """Refuse levels that cannot be reached."""
    _run("check", study, Cell(model=model))


@app.command(rich_help_panel=STAGES)
def dense(study: StudyFile, model: Model, seed: Seed) -> None:
    """Train the dense net."""
    _run("dense", study, Cell(model=model, seed=seed))


@app.command(rich_help_panel=STAGES)
def prune(study: StudyFile, model: Model, seed: Seed, criterion: Criterion, schedule: Schedule, keep: Keep) -> None:
    """Remove structures down to one level."""
    _run("prune", study, Cell(model, seed, criterion, schedule, keep))


@app.command(rich_help_panel=STAGES)
def finetune(study: StudyFile, model: Model, seed: Seed, criterion: Criterion, schedule: Schedule, keep: Keep) -> None:
    """Train a pruned net on."""
    _run("finetune", study, Cell(model, seed, criterion, schedule, keep))


@app.command(rich_help_panel=STAGES)
def scratch(study: StudyFile, model: Model, seed: Seed, criterion: Criterion, schedule: Schedule, keep: Keep) -> None:
    """Train a pruned architecture from new weights (control)."""
    _run("scratch", study, Cell(model, seed, criterion, schedule, keep))


@app.command(rich_help_panel=STAGES)
def evaluate(
    study: StudyFile,
    model: Model,
    seed: Seed,
    variant: Variant,
    criterion: Criterion = "",
    schedule: Schedule = "",
    keep: Keep = "",
) -> None:
    """Read the test images and measure the clock."""
    _run("evaluate", study, Cell(model, seed, criterion, schedule, keep, variant))


@app.command(rich_help_panel=STAGES)
def collect(study: StudyFile) -> None:
    """Gather all measures in one table."""
    import_module("oba.stages.collect").run(load_study(study))


@app.command(rich_help_panel=STAGES)
def report(study: StudyFile) -> None:
    """Make tables and pictures."""
    import_module("oba.stages.report").run(load_study(study))


@app.command(rich_help_panel=STAGES)
def begin(study: StudyFile) -> None:
    """Set up the tracking store before the jobs meet it; a dead server is reported and does not stop the run."""
    from oba.stages.job import chain_identity
    from oba.tracking import begin as begin_tracking
    from oba.tracking import resolve_uri

    loaded = load_study(study)
    layout = Layout(loaded.experiment)
    chains = {chain.key: chain for cell in cells(loaded) if cell.schedule for chain in [chain_identity(loaded, cell)]}
    begin_tracking(
        loaded.experiment, list(chains.values()), resolve_uri(loaded.tracking.uri, layout.results), layout.results
    )


@app.command(rich_help_panel=STAGES)
def end(study: StudyFile) -> None:
    """Send to MLflow what the stages left; a dead server is reported and does not fail the run."""
    from oba.tracking import resolve_uri
    from oba.tracking import sync as sync_journals

    loaded = load_study(study)
    layout = Layout(loaded.experiment)
    uri = resolve_uri(loaded.tracking.uri, layout.results)
    try:
        sync_journals(sorted(layout.journals.glob("**/*.jsonl")), uri, layout.results)
    except TrackingError as error:
        sys.stderr.write(f"tracking: {error}; `oba sync` sends this study later\n")


@app.command()
def show(study: StudyFile) -> None:
    """Print the summary table, and where the tables, pictures and runs are."""
    from oba.report.look import where_to_look
    from oba.tracking import resolve_uri

    loaded = load_study(study)
    layout = Layout(loaded.experiment)
    typer.echo(where_to_look(layout.report, resolve_uri(loaded.tracking.uri, layout.results)))


@app.command()
def sync(
    results: Annotated[Path, typer.Option(help="Folder of the experiments.")] = RESULTS,
    uri: Annotated[
        str | None, typer.Option(help="Tracking server or store; else the environment's, else SQLite.")
    ] = None,
) -> None:
    """Send to MLflow what it does not have yet, without duplicates."""
    from oba.tracking import resolve_uri
    from oba.tracking import sync as sync_journals

    sent = sync_journals(sorted(results.glob("*/journal/**/*.jsonl")), resolve_uri(uri, results), results)
    typer.echo(sent)


@bench.command(name="importance")
def bench_importance(
    model: Annotated[str, typer.Option(help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>.")],
    batch: Annotated[int, typer.Option(help="Images.", min=1)] = 64,
    size: Annotated[int, typer.Option(help="Edge of the images in pixels.", min=4)] = 32,
    classes: Annotated[int, typer.Option(help="Classes.", min=2)] = 10,
    criterion: Annotated[list[str] | None, typer.Option(help="Criterion; may be repeated. All without it.")] = None,
    norm: Annotated[str, typer.Option(help="Statistics of norms: eval or train.")] = "eval",
    rounds: Annotated[int, typer.Option(help="Turns of all methods, after one to warm up.", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path | None, typer.Option("--json", help="File to write the figures to.")] = None,
) -> None:
    """Measure what criteria cost, in time and memory, as multiples of one plain gradient."""
    # PyTorch's profiler, which measures memory, reports its own starts and stops otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from oba.bench.importance import Setting, run

    run(Setting(model, batch, size, classes, norm, rounds, threads, device), criterion or [], output)


@app.command()
def unlock() -> None:
    """Free the lock of a Snakemake run that was killed; refuse while its owner lives."""
    from oba.locks import free_dead_lock

    typer.echo(free_dead_lock(Path.cwd()))


@app.command()
def schema(output: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write the JSON schema of study files."""
    write_text(output, json.dumps(Study.model_json_schema(by_alias=True), indent=1) + "\n")


def main() -> None:
    """Run the command line: an error that a user can mend is one line and a code of its own."""
    # Threads that wait must not spin: jobs share a machine, with each other and with other people.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ObaError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
