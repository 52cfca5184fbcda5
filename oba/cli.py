"""The command line: one command per stage of the DAG, and a few for people."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from oba.analysis.command import sensitivity
from oba.commands import PANEL, StudyFile, add_jobs, read_any_study
from oba.compare.command import compare
from oba.errors import ObaError, StoppedError, Told, TrackingError, explain_oserror
from oba.export.formats import Format
from oba.files import write_text
from oba.imports import imported
from oba.layout import RESULTS, Layout
from oba.status.command import add_status
from oba.status.start import with_display
from oba.training.launch import follow, is_followed, leave

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prune image classifiers with Optimal Brain Apoptosis. Run a whole study with `snakemake --cores all`.",
)

bench = typer.Typer(no_args_is_help=True, help="Measure what things cost.")
app.add_typer(bench, name="bench")

add_jobs(app)
add_status(app)


@app.command(rich_help_panel=PANEL)
def collect(study: StudyFile) -> None:
    """Gather all measures in one table."""
    imported("oba.stages.collect").run(read_any_study(study))


@app.command(rich_help_panel=PANEL)
def report(study: StudyFile) -> None:
    """Make tables and pictures."""
    from oba.stages.reporting import reported_report

    loaded = read_any_study(study)
    with reported_report(loaded):
        imported("oba.stages.report").run(loaded)


@app.command(rich_help_panel=PANEL)
def begin(study: StudyFile) -> None:
    """Set up the tracking store before the jobs meet it; a dead server is reported and does not stop the run."""
    from oba.stages.descriptions import experiment_tags
    from oba.tracking import begin as begin_tracking
    from oba.tracking import resolve_uri

    loaded = read_any_study(study)
    layout = Layout(loaded.experiment)
    uri = resolve_uri(loaded.tracking.uri, layout.results)
    begin_tracking(loaded.experiment, uri, layout.results, experiment_tags(loaded))


@app.command(rich_help_panel=PANEL)
def end(study: StudyFile) -> None:
    """Send to MLflow what the stages left; a dead server is reported and does not fail the run."""
    from oba.tracking import find_journals, resolve_uri
    from oba.tracking import sync as sync_journals

    loaded = read_any_study(study)
    layout = Layout(loaded.experiment)
    uri = resolve_uri(loaded.tracking.uri, layout.results)
    try:
        sync_journals(find_journals(layout.journals), uri, layout.results)
    except TrackingError as error:
        sys.stderr.write(f"tracking: {error}; `oba sync` sends this study later\n")


@app.command()
def validate(
    study: Annotated[Path, typer.Argument(help="Study file (YAML), or the resolved study.json of an experiment.")],
    cluster: Annotated[bool, typer.Option("--cluster", help="Jobs run elsewhere: look for no GPU here.")] = False,
) -> None:
    """Check a study before its first job, and say what the sweep will be; Snakemake does so by itself."""
    from oba.validate import validate as described

    typer.echo(described(read_any_study(study), local=not cluster))


@app.command()
def show(study: StudyFile) -> None:
    """Print the summary table, and where the tables, pictures and runs are."""
    from oba.report.terminal import closing_text
    from oba.tracking import resolve_uri
    from oba.tracking.links import charts_of

    loaded = read_any_study(study)
    layout = Layout(loaded.experiment)
    uri = resolve_uri(loaded.tracking.uri, layout.results)
    typer.echo(closing_text(layout.report, uri, charts_of(layout.journals, uri)))


@app.command()
def failed(study: StudyFile) -> None:
    """Print the jobs that did not finish, why, and where their logs are."""
    from oba.gaps import find_gaps, is_stop

    loaded = read_any_study(study)
    for job in find_gaps(loaded, Layout(loaded.experiment)).failed:
        how = "stopped" if is_stop(job.error) else "failed"
        typer.echo(f"{how}: {job.name}: {job.error} (log: {job.log})", err=True)


@app.command()
def sync(
    results: Annotated[Path, typer.Option(help="Folder of the experiments.")] = RESULTS,
    uri: Annotated[
        str | None, typer.Option(help="Tracking server or store; else the environment's, else SQLite.")
    ] = None,
) -> None:
    """Send to MLflow what it does not have yet, without duplicates; end the runs of dead processes as KILLED."""
    from oba.tracking import find_journals, resolve_uri
    from oba.tracking import sync as sync_journals

    journals = [journal for folder in sorted(results.glob("*/journal")) for journal in find_journals(folder)]
    typer.echo(sync_journals(journals, resolve_uri(uri, results), results))


@app.command()
def export(
    net: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a stored net, such as .../finetuned.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    kind: Annotated[Format, typer.Option("--format", help="What to make of the net.")] = Format.TORCH_EXPORT,
    normalize: Annotated[
        bool | None,
        typer.Option(help="Take images in [0, 1] and normalise them inside; the default where the format is a graph."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    latency_batch: Annotated[int, typer.Option(help="Images per timed pass.", min=1)] = 32,
    latency_runs: Annotated[int, typer.Option(help="Timed passes, 3 or more; 0 to time nothing.", min=0)] = 30,
    threads: Annotated[int, typer.Option(help="CPU threads of the timed passes.", min=1)] = 1,
) -> None:
    """Export a stored net, checked against it, with a model card: to run it without this project."""
    from oba.export.export import export_pruned

    made = export_pruned(
        net,
        output,
        kind,
        normalize=normalize,
        overwrite=overwrite,
        latency_batch=latency_batch,
        latency_runs=latency_runs,
        threads=threads,
    )
    typer.echo(f"{made}: {', '.join(sorted(path.name for path in made.iterdir()))}")


app.command()(compare)
app.command()(sensitivity)


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


def _snakemake(*options: str) -> NoReturn:
    """Become Snakemake: a signal to this process must reach it, and leave it the time to end its jobs and report."""
    chosen, environment = with_display(options, os.environ)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "snakemake", *chosen], environment)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="Study file (YAML).")] = Path("config/config.yaml"),
) -> None:
    """Run a study: free the lock of a run that was killed, and start Snakemake; more options are passed on to it."""
    from oba.locks import NO_LOCK, free_dead_lock
    from oba.recover import refuse_orphans
    from oba.study import read_study

    read_study(study)
    refuse_orphans(Path.cwd())
    if (freed := free_dead_lock(Path.cwd())) != NO_LOCK:
        typer.echo(freed)
    options = context.args if {"--cores", "-c"} & set(context.args) else ["--cores", "all", *context.args]
    _snakemake("--configfile", str(study), *options)


@app.command()
def recover(
    cancel: Annotated[bool, typer.Option("--cancel", help="Do not wait for the jobs: cancel them.")] = False,
    lost_host: Annotated[str, typer.Option(help="Machine that the run was started on, if it is dead.")] = "",
) -> None:
    """Go on after a run was lost: wait for the jobs that it left on a cluster, free its lock, start it again."""
    from oba.recover import recovered

    with recovered(Path.cwd(), cancel=cancel, lost_host=lost_host, tell=typer.echo) as run:
        if (last := Path(run.study)).exists():
            end(last)
        _snakemake(*run.command)


@app.command()
def unlock() -> None:
    """Free the lock of a Snakemake run that was killed; refuse while its owner lives."""
    from oba.locks import free_dead_lock

    typer.echo(free_dead_lock(Path.cwd()))


@app.command(hidden=True)
def resolve() -> None:
    """Answer a process that plans a sweep: values of a study in, the resolved study out."""
    from oba.resolving import answer

    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))


@app.command()
def schema(output: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write the JSON schema of study files."""
    from oba.schema import study_schema

    write_text(output, json.dumps(study_schema(), indent=1) + "\n")


def _explained(error: BaseException) -> ObaError | None:
    return explain_oserror(error) if isinstance(error, OSError) else None


def main() -> None:
    """Run the command line: an error that a user can mend is one line and a code of its own, and so is a stop."""
    # Threads that wait must not spin: jobs share a machine, with each other and with other people.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    follow()
    try:
        app()
    except (Exception, StoppedError) as error:
        known = error if isinstance(error, Told) else _explained(error)
        if is_followed():
            leave(error, known)
        if known is None:
            raise
        sys.stderr.write("".join(f"{line}\n" for line in known.lines()))
        sys.exit(known.exit_code)
