"""How each job is, by what is on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from oba.dag import STAGES
from oba.files import write_text
from oba.jobs import PlannedJob
from oba.layout import Coordinates
from oba.recover import remember_run
from oba.status.cells import SILENT, State

LEVEL = Coordinates("resnet8", 0, "taylor", "iterative", "0.60")
NEXT = replace(LEVEL, keep="0.30")
DENSE = Coordinates("resnet8", 0)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_finished_sweep(made):
    made.finish()
    sweep = made.look()
    assert sweep.finished
    assert not sweep.alive
    assert {cell.state for cell in sweep.cells} == {State.DONE}


def test_a_sweep_that_has_not_begun(made):
    sweep = made.look()
    assert {cell.state for cell in sweep.cells} == {State.WAITING}
    assert (sweep.finished, sweep.alive, sweep.left) == (False, False, None)


@pytest.mark.parametrize("changes", [{"settings": {}}, {"code": "other"}])
def test_what_was_made_otherwise_is_out_of_date_and_so_is_what_was_made_of_it(made, changes):
    made.finish()
    made.record(PlannedJob(STAGES["finetune"], LEVEL), **changes)
    states = Counter((cell.stage, cell.at.keep, cell.state) for cell in made.look().cells)
    assert states["finetune", "0.60", State.OUTDATED] == 1
    assert states["prune", "0.60", State.DONE] == 1
    assert states["prune", "0.30", State.OUTDATED] == states["evaluate", "0.60", State.OUTDATED] == 1


def test_an_input_that_is_another_puts_its_readers_out_of_date_and_one_that_was_touched_does_not(made):
    made.finish()
    data, later = made.layout.data / "data.json", time.time() + 100
    os.utime(data, (later, later))
    assert made.look().finished
    write_text(data, "other images")
    os.utime(data, (later, later))
    assert made.cell("prepare", Coordinates()).state is State.DONE
    assert made.cell("split", Coordinates(seed=0)).state is State.OUTDATED


def test_a_damaged_record_is_made_again(made):
    made.finish()
    STAGES["trace"].record(made.layout, Coordinates("resnet8")).write_text("{")
    assert made.cell("trace", Coordinates("resnet8")).state is State.OUTDATED


def test_a_running_job_says_how_far_it_is(made):
    made.finish("prepare", "split", "trace")
    journal = made.begin("dense", DENSE)
    made.train("dense", DENSE, 12)
    cell = made.cell("dense", DENSE)
    assert cell.state is State.RUNNING
    assert cell.note.startswith("epoch 12/150  1,234 images/s  2")
    assert cell.left == pytest.approx(1380, abs=30)
    journal.close()


def test_a_training_that_went_on_says_where(made):
    made.finish("prepare", "split", "trace")
    made.begin("dense", DENSE).close()
    made.log("dense", DENSE, "dense resnet8 seed0  resumed at epoch 37, step 5 of 21\n")
    assert made.cell("dense", DENSE).note.endswith("resumed at epoch 37")


def test_rounds_of_pruning(made):
    made.finish("prepare", "split", "trace", "dense", "evaluate_dense")
    made.begin("prune", LEVEL).close()
    state = made.layout.state(STAGES["prune"].record(made.layout, LEVEL)) / "k"
    write_text(state / "round-0002.json", "{}")
    write_text(state / "round-0003-layer-0007.json", "{}")
    assert made.cell("prune", LEVEL).note.startswith("round 2/4")


def test_a_dead_process_is_a_failure(made, dead):
    made.finish("prepare", "split", "trace")
    made.begin("dense", DENSE, pid=dead).close()
    made.log("dense", DENSE, "dense resnet8 seed0  epoch 1/150\n")
    made.train("dense", DENSE, 12)
    cell = made.cell("dense", DENSE)
    assert cell.state is State.FAILED
    assert cell.note.startswith("stopped without an error message, perhaps killed (epoch 12/150")
    assert made.cell("prune", LEVEL).state is State.BLOCKED


def test_a_process_that_has_the_number_of_a_dead_one_is_another(made):
    made.finish("prepare", "split", "trace")
    journal = made.begin("dense", DENSE)
    text = journal.path.read_bytes().replace(b'"time": 1', b'"time": ', 1)  # in another century
    journal.close()
    journal.path.write_bytes(b"".join(line.split(b', "crc"')[0] + b"}\n" for line in text.splitlines()))
    made.log("dense", DENSE, "begun\n")
    assert made.cell("dense", DENSE).state is State.FAILED


def test_a_job_of_another_machine_is_known_by_its_last_sign(made):
    made.finish("prepare", "split", "trace")
    made.begin("dense", DENSE, host="node7", job="4711").close()
    before = time.time() - 130
    os.utime(made.journal("dense", DENSE), (before, before))
    sweep, cell = made.look(), made.cell("dense", DENSE)
    assert cell.state is State.RUNNING
    assert "on node7 (SLURM job 4711), last sign 2:1" in cell.note
    assert sweep.alive
    long_ago = time.time() - SILENT - 10
    os.utime(made.journal("dense", DENSE), (long_ago, long_ago))
    assert made.cell("dense", DENSE).silent
    assert not made.look().alive


def test_a_failure_has_its_cause(made):
    made.finish("prepare", "split", "trace", "dense", "evaluate_dense")
    journal = made.begin("prune", LEVEL)
    journal.write("end", status="FAILED")
    journal.close()
    made.log("prune", LEVEL, "error: prune taylor iterative keep0.60 resnet8 seed0: keep=0.60 cannot be reached\n")
    cell = made.cell("prune", LEVEL)
    assert (cell.state, cell.note) == (State.FAILED, "keep=0.60 cannot be reached")
    assert made.cell("finetune", NEXT).state is State.BLOCKED


def test_a_job_whose_results_are_lost_is_not_done(made):
    made.finish()
    assert made.look().finished
    weights, *_, record = STAGES["dense"].writes(made.layout, DENSE)
    weights.unlink()
    assert made.cell("dense", DENSE).state is State.OUTDATED
    write_text(weights, "made")
    record.write_text(record.read_text().replace('"seconds": 2.0', '"seconds": 3.0'))
    assert made.cell("dense", DENSE).state is State.OUTDATED, "nobody believes a record whose seal is broken"


def test_a_job_that_a_signal_stopped_waits_to_go_on(made):
    made.finish("prepare", "split", "trace")
    journal = made.begin("dense", DENSE)
    journal.write("end", status="KILLED")
    journal.close()
    made.log("dense", DENSE, "error: dense resnet8 seed0: stopped by SIGINT, saved at epoch 9, step 2 of 21\n")
    cell = made.cell("dense", DENSE)
    assert (cell.state, cell.note) == (State.STOPPED, "stopped by SIGINT, saved at epoch 9, step 2 of 21")
    assert made.cell("prune", LEVEL).state is State.WAITING


def test_stages_of_one_job_share_a_log_and_only_the_first_unfinished_one_failed(study, made):
    made = type(made)(study(job_per="level"))
    made.finish()
    for at in (LEVEL, NEXT):
        (made.layout.level(at) / "finetuned/run.json").unlink()
        (made.layout.level(at) / "finetuned/evaluation-run.json").unlink()
    log = made.layout.log(STAGES["evaluate"].record(made.layout, replace(LEVEL, variant="finetuned")))
    write_text(log, "error: finetune taylor iterative keep0.60 resnet8 seed0: the loss is nan\n")
    assert made.cell("finetune", LEVEL).state is State.FAILED
    assert made.cell("evaluate", replace(LEVEL, variant="finetuned")).state is State.BLOCKED


def test_only_the_run_of_this_study_counts(made, monkeypatch):
    monkeypatch.setattr("oba.status.survey.owners", lambda workdir: [object()])
    remember_run(Path.cwd(), [], made.layout.study, [])
    assert made.look().alive
    remember_run(Path.cwd(), [], Path("results/other/study.json"), [])
    assert not made.look().alive


def test_a_job_that_has_just_begun_has_a_log_and_no_journal_yet(made, monkeypatch):
    made.finish("prepare", "split", "trace")
    made.log("dense", DENSE, "")
    assert made.cell("dense", DENSE).state is State.FAILED
    monkeypatch.setattr("oba.status.survey.owners", lambda workdir: [object()])
    cell = made.cell("dense", DENSE)
    assert (cell.state, cell.note) == (State.RUNNING, "starting")


def test_looking_again_sees_what_has_changed(made):
    from oba.status.survey import Survey

    survey = Survey(made.study, made.layout, Path.cwd())
    made.finish("prepare")
    assert survey.look().count(State.DONE) == 1
    made.finish()
    assert survey.look().finished
    STAGES["dense"].record(made.layout, DENSE).unlink()
    assert not survey.look().finished
