"""What a job pays before it works: CPU seconds of every command, as multiples of ``python -c "import torch"``.

Run ``python benchmarks/startup.py``. The sweep is scikit-learn's digits with the smallest net, so that its jobs do next
to nothing: what is left is starting Python, importing, reading the study and finding out what the job depends on. Every
round runs all commands in turn, each beside one bare import of torch, and the medians of the ratios count.
"""

from __future__ import annotations

import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml
from command import argument_parser, write_figures

from oba.files import write_json
from oba.study import dump_study, parse_study

ROOT = Path(__file__).parents[1]
STUDY = {
    "experiment": "tiny",
    "data": {"name": "digits"},
    "calibration": {"images": 32},
    "models": ["resnet8"],
    "seeds": [0],
    "methods": ["taylor"],
    "method_defaults": {"rounds": 1},
    "controls": ["scratch"],
    "keep": [0.5],
    "dense": {"epochs": 1, "batch_size": 512},
    "finetune": {"epochs": 1, "batch_size": 512},
    "evaluation": {"latency_runs": 3},
    "runtime": {"device": "cpu"},
}
AT = "--study results/tiny/study.json"
NET = f"{AT} --model resnet8 --seed 0"
LEVEL = f"{NET} --method taylor --schedule iterative --keep 0.50"
FINISHED = "a finished job"
COMMANDS = {
    "prepare": f"prepare {AT}",
    "split": f"split {AT} --seed 0",
    "trace": f"trace {AT} --model resnet8",
    "dense": f"dense {NET}",
    "evaluate the dense net": f"evaluate {NET} --variant dense",
    "prune": f"prune {LEVEL}",
    "finetune": f"finetune {LEVEL}",
    "evaluate": f"evaluate {LEVEL} --variant finetuned",
    "scratch": f"scratch {LEVEL}",
    "evaluate the control": f"evaluate {LEVEL} --variant scratch",
    "collect": f"collect {AT}",
    "report": f"report {AT}",
    FINISHED: f"finetune {LEVEL}",
    "begin": f"begin {AT}",
    "end": f"end {AT}",
    "end, nothing to send": f"end {AT}",
    "--help": "--help",
    "unlock": "unlock",
}
"""Commands of the sweep, in its order."""
SNAKEMAKE = "snakemake --dry-run"
PROGRAM = """
import sys, time
from pathlib import Path
from oba import cli, dag
from oba.imports import imported

def told(work):
    def run(*arguments):
        Path("begun").write_text(str(time.process_time()))
        return work(*arguments)
    return run

command = sys.argv[1]
STAGES = {*(stage.module for stage in dag.STAGES.values()), "collect", "report"}
if command in STAGES:
    stage, name = imported(f"oba.stages.{command}"), "run" if command in {"collect", "report"} else "perform"
    setattr(stage, name, told(getattr(stage, name)))
cli.main()
"""
"""The command line, which tells when the work of a stage begins."""


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """Run a command in a folder.

    Args:
        command: Program and arguments.
        folder: The working directory.

    Returns:
        The CPU seconds of the command and of all that it starts, user and system.
    """
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_sweep(folder: Path, begun: dict[str, list[float]], whole: dict[str, list[float]]) -> list[float]:
    """Run all commands once, and add their ratios to a bare import of torch.

    Args:
        folder: An empty folder.
        begun: Ratios until the work begins, by command.
        whole: Ratios of whole commands.

    Returns:
        CPU seconds of the bare imports.
    """
    seconds = []
    write_json(folder / "results/tiny/study.json", dump_study(parse_study(STUDY, "study")))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    commands = {name: [sys.executable, "-c", PROGRAM, *shlex.split(options)] for name, options in COMMANDS.items()}
    commands[FINISHED][1:3] = ["-m", "oba"]
    options = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "tiny.yaml", "--cores", "1", "--dry-run"]
    commands[SNAKEMAKE] = [sys.executable, "-m", "snakemake", *options]
    for name, command in commands.items():
        torch_alone = cpu_seconds([sys.executable, "-c", "import torch"], folder)
        seconds.append(torch_alone)
        whole[name].append(cpu_seconds(command, folder) / torch_alone)
        if (note := folder / "begun").exists():
            begun[name].append(float(note.read_text()) / torch_alone)
            note.unlink()
    return seconds


def main() -> None:
    """Measure all commands and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="sweeps, after one to fill the caches")
    options = parser.parse_args()
    begun: dict[str, list[float]] = defaultdict(list)
    whole: dict[str, list[float]] = defaultdict(list)
    seconds: list[float] = []
    for number in range(options.rounds + 1):
        figures = (begun, whole) if number else (defaultdict(list), defaultdict(list))
        with tempfile.TemporaryDirectory() as folder:
            seconds += run_sweep(Path(folder), *figures)
    print(f"import torch: {statistics.median(seconds):.2f} CPU seconds")
    print(f"{'command':<32}{'until work begins':>20}{'whole':>10}")
    for name, ratios in whole.items():
        first = f"{statistics.median(begun[name]):.2f}" if begun[name] else ""
        print(f"{name:<32}{first:>20}{statistics.median(ratios):>10.2f}")
    write_figures(options, {"import_torch": seconds, "begun": begun, "whole": whole})


if __name__ == "__main__":
    main()
