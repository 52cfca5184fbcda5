"""What ``oba status`` costs: the whole command, on a sweep of which half is done.

    python benchmarks/status.py --chains 100 1000 5000

A chain has three levels; ten chains share a dense net. Nothing is trained: every file is made up, with a sound record.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from command import argument_parser, write_figures
from planning import cost_of, values_of

from oba.files import write_json
from oba.jobs import Jobs, planned_jobs
from oba.layout import Layout
from oba.made import write_run
from oba.study import dump_study, parse_study


def make_up(values: dict[str, object], folder: Path) -> None:
    """Make the files of a sweep's finished half, with sound records."""
    study = parse_study(values, "study")
    layout, named = Layout(study.experiment, folder / "results"), Layout(study.experiment)
    made, half = Jobs(study, layout), max(study.seeds) // 2
    write_json(layout.study, dump_study(study))
    jobs = [job for job in planned_jobs(study) if job.at.seed is None or job.at.seed <= half]
    for job in jobs:
        for output in job.stage.writes(layout, job.at)[:-1]:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text("{}\n")
    for job in jobs:
        *outputs, record = job.stage.writes(layout, job.at)
        reads = [path for paths in job.stage.reads(study, named, job.at).values() for path in paths]
        facts = {"settings": made.settings_of(job.stage, job.at), "code": made.code_of(job.stage, job.at)}
        write_run(record, facts | {"seconds": 2.0, "inputs": {str(path): "" for path in reads}}, outputs)


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--chains", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    figures: list[dict[str, object]] = []
    for chains in options.chains:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            maker = get_context("spawn").Process(target=make_up, args=(values_of(chains, "stage"), folder))
            maker.start()
            maker.join()
            assert maker.exitcode == 0
            code = "import sys; from oba.cli import app; app(['status', 'planned'], standalone_mode=False)"
            cost_of([sys.executable, "-c", code], folder)  # which remembers the digests of the code
            cost = cost_of([sys.executable, "-c", code], folder)
            last = (folder / "output.txt").read_text().splitlines()[-1]
            print(f"{chains:6d} chains {cost.cpu_seconds:6.1f} s of CPU {cost.wall_seconds:6.1f} s", flush=True)
            print(f"{cost.peak_megabytes:20.0f} MB  {last}", flush=True)
            figures.append({"chains": chains, **asdict(cost)})
    write_figures(options, {"sweeps": figures})


if __name__ == "__main__":
    main()
