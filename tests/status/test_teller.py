"""What is told of a run, from recorded events of Snakemake."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from oba.files import write_json, write_text
from oba.status.plan import why
from oba.status.screen import Lines, Terminal, screen_for
from oba.status.start import with_display
from oba.status.teller import Teller

LEVEL = {"model": "resnet8", "seed": "0", "method": "taylor", "schedule": "iterative", "keep": "0.60"}
FINETUNED = "results/tiny/resnet8/seed0/taylor-iterative/keep0.60/finetuned"
LOG = "results/tiny/logs/resnet8/seed0/taylor-iterative/keep0.60/finetuned/run.log"
STATS = {"finetune": 2, "collect": 1, "all": 1, "total": 4}


class Told:
    """A run whose events a test makes."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.StringIO()
        self.teller = Teller(Lines(self.stream), **options)

    def event(self, event: str, **fields: Any) -> None:
        self.teller.take(logging.makeLogRecord({"event": event, "msg": "", "created": 1000.0, "levelno": 20} | fields))

    def message(self, text: str, level: int = logging.INFO) -> None:
        self.teller.take(logging.makeLogRecord({"msg": text, "levelno": level}))

    def start(self, number: int = 7, **fields: Any) -> None:
        files = {"log": [LOG], "output": [f"{FINETUNED}/model.safetensors", f"{FINETUNED}/run.json"], "benchmark": None}
        job = {
            "jobid": number,
            "rule_name": "finetune",
            "wildcards": LEVEL,
            "reason": "Missing output files: x",
        } | files
        self.event("job_info", **(job | fields))

    def fail(self, **fields: Any) -> None:
        files = {"log": [LOG], "output": [f"{FINETUNED}/run.json"], "rule_msg": None}
        self.event("job_error", **({"jobid": 7, "rule_name": "finetune"} | files | fields))

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def told(tmp_path, monkeypatch) -> Told:
    monkeypatch.chdir(tmp_path)
    told = Told()
    told.event("run_info", stats=STATS)
    return told


NAME = "finetune taylor iterative keep0.60 resnet8 seed0"


def test_a_finished_job_is_one_line_with_what_it_reached(told):
    told.start()
    write_json(Path(FINETUNED) / "metrics.json", {"val": {"top1": 0.9764}})
    told.event("job_finished", job_id=7, created=1031.0)
    assert told.lines[0] == "3 jobs: 2 finetune, 1 collect"
    assert told.lines[-1] == f"1/3     0:31  val   97.6 %  {NAME}"


def test_times_are_those_of_the_job_and_not_of_the_queue(told):
    write_text(Path("times.tsv"), "s\th:m:s\n4.56\t0:00:04\n")
    told.start(benchmark="times.tsv")
    told.event("job_finished", job_id=7, created=9000.0)
    assert "     0:05  " in told.lines[-1]


def test_a_training_that_went_on_says_so(told):
    told.start()
    write_text(Path(LOG), f"{NAME}  resumed after epoch 36 of 150\n")
    told.event("job_finished", job_id=7)
    assert told.lines[-1].endswith(f"{NAME}  resumed at epoch 36")


def test_a_failed_job_is_one_line_with_its_cause(told):
    told.start()
    write_text(Path(LOG), f"error: {NAME}: the loss is nan\n")
    told.event("error", msg="RuleException:\nCalledProcessError in file x, line 3:\nCommand died", levelno=40)
    told.fail()
    told.event("error", msg="WorkflowError:\nAt least one job did not complete successfully.", levelno=40)
    assert told.lines[-2:] == [
        f"failed: {NAME}: the loss is nan (log: {LOG})",
        "not all jobs are done; the same command tries those that failed again",
    ]


def test_where_the_log_says_nothing_the_cluster_may(told):
    told.start()
    told.fail(rule_msg="SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY'. For further error details see.")
    told.message("Trying to restart job 7.")
    assert told.lines[-2:] == [
        f"failed: {NAME}: SLURM-job '12' failed, SLURM status is: 'OUT_OF_MEMORY' (log: {LOG})",
        f"again: {NAME}",
    ]
    told.start()
    told.event("job_finished", job_id=7)
    told.message("Elapsed time: 0:01:00")
    assert told.lines[-1].startswith("1 of 3 jobs done in "), "it did not fail in the end"
    assert "failed" not in told.lines[-1]


def test_a_stopped_run_is_no_failure(told):
    told.start()
    told.start(8, wildcards=LEVEL | {"seed": "1"}, log=["other.log"])
    told.message("Terminating processes on user request, this might take some time.")
    write_text(
        Path(LOG), f"error: {NAME}: stopped by SIGINT, saved at epoch 9, step 2 of 21; the same command goes on\n"
    )
    told.fail()
    told.fail(jobid=8, log=[])
    told.message("Elapsed time: 0:01:00")
    told.event("error", msg="WorkflowError:\nAt least one job did not complete successfully.", levelno=40)
    assert told.lines[1:-2] == [
        "stopping: the running jobs save what they have",
        f"stopped: {NAME}: SIGINT, saved at epoch 9, step 2 of 21; the same command goes on",
        f"stopped: {NAME.replace('seed0', 'seed1')}: the same command goes on from what was saved",
    ]
    assert told.lines[-1] == "stopped; the same command goes on"
    assert not any("fail" in line for line in told.lines)


def test_a_run_that_ends_after_its_jobs_says_so_once(told):
    for _ in range(3):
        told.message("Will exit after finishing currently running jobs (scheduler).")
    assert told.lines[1:] == ["stopping: after the running jobs, which go on to their end"]


@pytest.mark.parametrize("text", ["SLURM run ID: 1234-abc", "No SLURM account given", "Unlocked working directory."])
def test_what_matters_stays(told, text):
    told.message(text)
    assert told.lines[-1] == text


@pytest.mark.parametrize("text", ["Building DAG of jobs...", "Select jobs to execute...", "", None])
def test_chatter_goes(told, text):
    before = told.lines
    told.message(text)
    assert told.lines == before


def test_warnings_are_never_chatter(told):
    told.message("Using shell from elsewhere", logging.WARNING)
    assert told.lines[-1] == "Using shell from elsewhere"


def test_errors_of_the_workflow_keep_their_text(told):
    place = '\n  File "common.smk", line 3, in <module>'
    ours = f"WorkflowError in file common.smk, line 3:\nstudy: seeds: missing\nkeep: wrong{place}"
    told.event("error", msg=ours, levelno=40)
    assert told.lines[-2:] == ["error: study: seeds: missing", "error: keep: wrong"]
    told.event("error", msg=f"NameError in file common.smk, line 3:\nname 'x' is not defined{place}", levelno=40)
    assert told.lines[-2:] == ["error: name 'x' is not defined", f"error: {place.strip()}"]


def test_nothing_to_do_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = Told()
    told.message("Nothing to be done (all requested files are present and up to date).")
    assert told.lines == ["nothing to do: every job of the study is done, and nothing that it depends on has changed"]


def test_a_plan_is_counted_and_names_what_is_lost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = Told(dryrun=True)
    told.event("run_info", stats=STATS)
    write_text(Path(FINETUNED) / "run.json", "{}")
    told.start(reason="Params have changed since last execution: before: '{\"a\": 1}' now: '{\"a\": 2}'")
    told.start(8, output=["other/run.json"])
    told.start(9, rule_name="collect", wildcards={}, output=["c"], reason="Input files updated by another job: x")
    told.message("This was a dry-run (flag -n).")
    assert [line.split(None, 2) for line in told.lines[:4]] == [
        ["stage", "jobs", "why"],
        ["finetune", "2", "1 settings changed, 1 new"],
        ["collect", "1", "after the above"],
        ["total", "3"],
    ]
    assert f"  {NAME}" in told.lines
    assert "the results of 1 job are there, and would be deleted and made again:" in told.lines


CHANGED = "Params have changed since last execution: Union of exclusive params before and now across all output: "


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("Missing output files: a; Input files updated by another job: b", "new"),
        ("Updated input files: a", "inputs changed"),
        ("Forced execution", "lost, damaged or asked for"),
        (f"{CHANGED}before: '{{\"a\": 1}}' now: '{{\"a\": 2}}' ", "settings changed"),
        (f"{CHANGED}before: 'aaaaaaaaaaaaaaaa' now: 'bbbbbbbbbbbbbbbb' ", "code changed"),
        (
            f"{CHANGED}before: '{{\"a\": 1}}','aaaaaaaaaaaaaaaa' now: 'bbbbbbbbbbbbbbbb','{{}}' ",
            "settings and code changed",
        ),
        (f"Missing output files: a; {CHANGED}before: '{{\"a\": 1}}' now: '{{}}' ", "settings changed"),
    ],
)
def test_reasons_in_a_word(reason, word):
    assert why(reason) == word


def test_the_display_is_chosen_unless_the_user_chose_another():
    options, environment = with_display(["--cores", "2"], {"PYTHONPATH": "a"})
    assert options == ["--logger", "oba", "--cores", "2"]
    folder, rest = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(folder) / "snakemake_logger_plugin_oba/__init__.py").exists()
    assert rest == "a"
    assert with_display(options, environment) == (options, environment), "a recovered run has it already"
    for own in (["--quiet", "all"], ["-q"], ["--verbose"], ["--verb"], ["--logger", "json"], ["--debug-dag"]):
        assert with_display(own, {}) == (own, {})


def test_a_stream_that_is_no_terminal_gets_lines_without_control_codes(told):
    assert type(screen_for(io.StringIO(), plain=False)) is Lines
    told.start()
    told.fail()
    assert "\x1b" not in told.stream.getvalue()


def test_the_cursor_is_never_hidden(monkeypatch):
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    screen = screen_for(stream := Tty(), plain=False)
    assert isinstance(screen, Terminal)
    screen.show(lambda: "bar")
    shown = stream.getvalue()
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
    screen.say("line", "yellow")
    screen.hide()
    assert "bar" in stream.getvalue()
    assert "line" in stream.getvalue()
