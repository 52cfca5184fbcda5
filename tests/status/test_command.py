"""``oba status``: which study, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oba.errors import ConfigError
from oba.layout import Coordinates
from oba.recover import remember_run
from oba.status.cells import Cell, State
from oba.status.command import ENDED, FINISHED, GOES_ON, find_resolved
from oba.status.draw import Drawing, closing_line
from oba.status.survey import Sweep

ROOT = Path(__file__).parents[2]
DENSE = Coordinates("resnet8", 0)


def status(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oba", "status", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_codes_of_a_finished_a_broken_and_a_living_sweep(made):
    made.finish()
    done = status("tiny")
    assert (done.returncode, done.stderr) == (FINISHED, "")
    assert done.stdout.splitlines()[-1] == "tiny: 11 of 11 jobs done; finished"
    (made.layout.dense(DENSE) / "run.json").unlink()
    made.log("dense", DENSE, "error: dense resnet8 seed0: the loss is nan\n")
    broken = status("tiny")
    assert broken.returncode == ENDED
    assert "failed   dense resnet8 seed0  the loss is nan\n" in broken.stdout
    assert f"log: {made.layout.log(made.layout.dense(DENSE) / 'run.json')}" in broken.stdout
    assert broken.stdout.splitlines()[-1].endswith("1 failed, 7 blocked; nothing runs: `oba run` goes on")
    journal = made.begin("dense", DENSE)
    living = status("tiny")
    journal.close()
    assert living.returncode == GOES_ON
    assert "1 running" in living.stdout


def test_the_codes_are_told(made):
    told = status("--help").stdout
    for code in (FINISHED, GOES_ON, ENDED):
        assert f"{code} " in told


def test_values(made):
    made.finish("prepare")
    done = status("--json", "tiny")
    values = json.loads(done.stdout)
    assert done.returncode == ENDED
    assert values["counts"]["done"] == 1
    assert (values["alive"], values["finished"], values["seconds_left"]) == (False, False, None)
    [prepare] = [job for job in values["jobs"] if job["stage"] == "prepare"]
    assert (prepare["state"], prepare["seconds"]) == ("done", 2.0)
    assert len(values["jobs"]) == 11


def test_studies_by_file_by_name_and_the_last_one(made):
    Path("my.yaml").write_text(yaml.safe_dump({"experiment": "tiny"}))
    assert find_resolved("my.yaml") == find_resolved("tiny") == made.layout.study
    assert find_resolved("results/tiny/study.json") == made.layout.study
    with pytest.raises(ConfigError, match="no run was started here"):
        find_resolved("")
    remember_run(Path.cwd(), [], made.layout.study, [])
    assert find_resolved("") == made.layout.study
    with pytest.raises(ConfigError, match=r"nope: no run of it was started here .* allowed: `oba run` first"):
        find_resolved("nope")


def test_watching_needs_a_terminal(made):
    done = status("--watch", "tiny")
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.startswith("error: --watch: the output is no terminal")


def test_watching_ends_with_the_sweep(made):
    made.finish()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "oba", "status", "--watch", "tiny"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    assert subprocess.run(command, stdin=theirs, stdout=theirs, env=environment).returncode == FINISHED
    assert b"finished" in os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)


def test_nothing_heavy_is_imported(made):
    code = "import sys; from oba.cli import app; app(['status', 'tiny'], standalone_mode=False); print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert not {"torch", "mlflow", "snakemake", "pandas", "matplotlib", "timm"} & set(done.stdout.split())


def drawn(cells: list[Cell], width: int = 80, **options: bool) -> list[str]:
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    console = Console(file=stream, width=width, color_system=None)
    console.print(Drawing(console, **options).draw(Sweep("big", cells, "", True, 60.0)))
    return stream.getvalue().splitlines()


def many(failed: int) -> list[Cell]:
    """One job of each of a thousand chains, of which one fails."""
    at = [Coordinates("m", seed, f"method{n}", "iterative", "0.50") for seed in range(100) for n in range(10)]
    return [
        Cell("prune", a, f"prune {a.method} seed{a.seed}", State.FAILED if i == failed else State.DONE, "why")
        for i, a in enumerate(at)
    ]


def test_of_many_chains_only_those_are_shown_that_run_or_failed():
    lines = drawn(many(17))
    assert len(lines) < 15
    assert any(line.startswith("  method7 iterative") for line in lines)
    assert len(drawn(many(17), all_chains=True)) > 1000


def test_eighty_columns_are_enough(made):
    made.finish("prepare", "split", "trace", "dense")
    lines = drawn(made.look().cells)
    assert max(map(len, lines)) <= 80
    assert "  taylor iterative ···   ···" in lines


def test_a_run_elsewhere_is_not_called_dead():
    sweep = Sweep("x", [Cell("prune", DENSE, "", State.WAITING)], "login2", False, None)
    assert closing_line(sweep).plain.endswith("the last run was started on login2, and gives no sign of life")
