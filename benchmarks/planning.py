"""What a sweep costs before and after its jobs: planning, an idle run again, one job's own reading of the workflow.

    python benchmarks/planning.py --chains 100 1000 5000

A chain has three levels; ten chains share a dense net. Nothing is trained: for the idle run, every file of the sweep is
made up, with a sound record, and Snakemake is told by ``--touch`` that its jobs have run. Times are of the CPU, beside
that of importing Snakemake alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import yaml
from command import argument_parser, write_figures

from oba.jobs import planned_jobs
from oba.layout import Layout
from oba.made import write_run
from oba.study import parse_study

ROOT = Path(__file__).parents[1]
NOBODY = "http://127.0.0.1:9"
"""A tracking server that is not there."""
TOUCH = """
import sys
from snakemake.cli import main
from snakemake.executors.touch import Executor
Executor.SLEEPING_TIME = 0
main(sys.argv[1:])
"""
"""Snakemake that does not wait after each file that it touches."""
METHODS = 10


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    cpu_seconds: float
    wall_seconds: float
    peak_megabytes: float


def cost_of(command: Sequence[str], folder: Path, **variables: str) -> Cost:
    """Run a command, which must succeed, and return what it took."""
    own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": NOBODY, "XDG_CACHE_HOME": str(folder / "cache")}
    environment = os.environ | own | variables
    started = os.times().elapsed
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{(folder / 'output.txt').read_text()[-3000:]}")
    wall = os.times().elapsed - started
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def values_of(chains: int, job_per: str) -> dict[str, object]:
    """Return a study of so many chains."""
    return {
        "experiment": "planned",
        "data": {"name": "digits"},
        "models": ["resnet8"],
        "seeds": list(range(chains // METHODS)),
        "methods": [{"name": f"taylor{number}", "criterion": "taylor"} for number in range(METHODS)],
        "keep": [0.7, 0.4, 0.2],
        "dense": {"epochs": 2},
        "finetune": {"epochs": 1},
        "runtime": {"device": "cpu"},
        "job_per": job_per,
    }


def make_up(values: dict[str, object], folder: Path) -> None:
    """Make all files of a sweep, with sound records."""
    study = parse_study(values, "study")
    for job in planned_jobs(study):
        *outputs, record = job.stage.writes(Layout(study.experiment, folder / "results"), job.at)
        for output in outputs:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text("{}\n")
        write_run(record, {"settings": {}, "inputs": {}}, outputs)
    report = Layout(study.experiment, folder / "results").report
    report.mkdir()
    for name in ("runs.csv", "summary.csv", "summary.md", "index.html", "tradeoff.png", "channels.png", "curves.png"):
        (report / name).touch()


def measured(chains: int, job_per: str) -> Iterator[tuple[str, Cost]]:
    """Measure one sweep in a folder of its own; yield what was measured, by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("Snakefile", "workflow", "profiles", "environment.yml"):
            (folder / part).symlink_to(ROOT / part)
        values = values_of(chains, job_per)
        (folder / "study.yaml").write_text(yaml.safe_dump(values))
        snakemake = [sys.executable, "-m", "snakemake", "--configfile", "study.yaml", "--cores", "2"]
        yield "plan", cost_of([*snakemake, "--dry-run", "--quiet", "all"], folder)
        # In a process of its own: the peak memory of a process counts that of the one it was forked from.
        maker = get_context("spawn").Process(target=make_up, args=(values, folder))
        maker.start()
        maker.join()
        assert maker.exitcode == 0
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        # Nothing was measured: there is nothing to send and to show at the end.
        (folder / "quiet").mkdir()
        (folder / "quiet/oba").symlink_to("/bin/true")
        path = os.pathsep.join([str(folder / "quiet"), os.environ["PATH"]])
        cost_of(
            [sys.executable, "-c", TOUCH, *snakemake[3:], "--cores", "100000", "--touch", "--quiet", "all"],
            folder,
            PATH=path,
        )
        yield "idle run", cost_of([*snakemake, "--quiet", "all"], folder)


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--chains", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--job-per", nargs="+", default=["stage", "level"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        unit = cost_of([sys.executable, "-c", "import snakemake.api"], Path(name))
    print(f"import snakemake.api: {unit.cpu_seconds:.1f} s of CPU, {unit.peak_megabytes:.0f} MB")
    figures: list[dict[str, object]] = []
    for job_per in options.job_per:
        for chains in options.chains:
            for what, cost in measured(chains, job_per):
                print(
                    f"{chains:6d} chains, a job per {job_per:5s} {what:9s} {cost.cpu_seconds:7.1f} s of CPU "
                    f"(x{cost.cpu_seconds / unit.cpu_seconds:.0f}), {cost.wall_seconds:7.1f} s, "
                    f"{cost.peak_megabytes:5.0f} MB",
                    flush=True,
                )
                figures.append({"chains": chains, "job_per": job_per, "what": what, **asdict(cost)})
    write_figures(options, {"import": asdict(unit), "sweeps": figures})


if __name__ == "__main__":
    main()
