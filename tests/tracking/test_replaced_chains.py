"""Parents of chains that changed: one new run each, with all stages that stay valid, though processes die or meet."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from oba.errors import TrackingError
from oba.tracking import begin, stage_run, sync
from oba.tracking.connection import Connection
from oba.tracking.journal import Journal

DEAD = "http://127.0.0.1:1"


def snapshot(lab):
    """Return all that a reader sees of the chain's runs and of the current runs of its stages."""
    keys = ["chain", *(path.stem for path in sorted(lab.folder.glob("journal/*.jsonl")))]
    return [(run.to_dictionary(), lab.history(run)) for key in keys for run in lab.runs(key)]


def test_changed_settings_begin_a_new_run_of_the_chain(lab, level, parents, chart, send):
    level(30, 0.75, dense=0.875)
    level(70, 0.5)
    level(30, 0.625, dense=0.875, chain="2")
    [new], [old] = parents()
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert chart(lab.client.get_run(new.info.run_id)) == {0: 0.875, 30: 0.625}
    level(70, 0.25, chain="2")
    send()
    before = snapshot(lab)
    assert send() == 0
    assert snapshot(lab) == before
    [new], [old] = parents()
    assert chart(new) == {0: 0.875, 30: 0.625, 70: 0.25}
    assert chart(old) == {0: 0.875, 30: 0.75, 70: 0.5}
    assert (new.info.status, new.info.run_name, new.data.tags["kind"]) == ("FINISHED", "chain 1", "chain")
    for key in ("evaluate30", "evaluate70"):
        assert [run.data.tags["mlflow.parentRunId"] for run in lab.runs(key)] == [old.info.run_id, new.info.run_id]


def test_run_that_never_ended_ends_when_it_is_replaced(lab, parents):
    for attempt in "12":
        identity = replace(lab.identity(parent=True), parent=lab.chain_of(attempt))
        with stage_run(lab.journal(), identity, uri=lab.uri, results_dir=lab.results, every=0) as run:
            run.metrics({"loss": 1.0}, step=int(attempt))
            current, replaced = parents()
            assert [parent.info.status for parent in current] == ["RUNNING"]
            assert len(replaced) == int(attempt) - 1


@pytest.mark.parametrize("uri", ["live", DEAD])
def test_stages_that_stay_valid_move_to_the_new_run_with_their_points(lab, level, parents, chart, send, uri):
    upstream = []
    for key in ("prune", "finetune"):
        identity = lab.identity(key, parent=True)
        with stage_run(lab.journal(key), identity, uri=lab.uri, results_dir=lab.results, upstream=upstream) as run:
            run.chain_metrics({"test_top1": 0.125, "latency_ms": 1.25}, step=len(key))
        upstream = [lab.journal(key)]
    level(30, 0.75)
    level(70, 0.5)
    level(30, 0.625, chain="2", upstream=upstream, uri=lab.uri if uri == "live" else uri)
    send()
    before = snapshot(lab)
    assert send() == 0
    assert snapshot(lab) == before
    [new], [old] = parents()
    assert chart(new) == {len("prune"): 0.125, len("finetune"): 0.125, 30: 0.625}
    shown = {key: [run.data.tags["mlflow.parentRunId"] for run in lab.runs(key)] for key in ("prune", "finetune")}
    assert shown == {"prune": [new.info.run_id], "finetune": [new.info.run_id]}
    (waiting,) = lab.runs("evaluate70")  # will run again
    assert waiting.data.tags["mlflow.parentRunId"] == old.info.run_id


def test_chain_whose_stages_ran_again_with_other_values_is_replaced_once(lab, level, parents, chart, send):
    level(30, 0.75, dense=0.875)
    level(70, 0.5)
    level(90, 0.25)
    [first], _ = parents()
    level(30, 0.625, dense=0.875)
    level(70, 0.375)
    [waiting], replaced = parents()
    assert (waiting.info.run_id, replaced) == (first.info.run_id, [])
    assert chart(waiting) == {0: 0.875, 30: 0.75, 70: 0.5, 90: 0.25}
    send()
    before = snapshot(lab)
    assert send() == 0
    assert snapshot(lab) == before
    [new], [old] = parents()
    assert old.info.run_id == first.info.run_id
    assert old.data.tags["superseded_by"] == new.info.run_id
    assert chart(new) == {0: 0.875, 30: 0.625, 70: 0.375, 90: 0.25}
    assert (new.info.status, new.data.tags["kind"]) == ("FINISHED", "chain")
    for key in ("evaluate30", "evaluate70", "evaluate90"):
        assert lab.runs(key)[-1].data.tags["mlflow.parentRunId"] == new.info.run_id
    assert begin(lab.experiment, lab.uri, lab.results)
    assert snapshot(lab) == before


def test_stage_that_goes_on_in_a_new_attempt_moves_at_its_start(lab, parents):
    journal = Journal(lab.journal())
    journal.start(lab.identity(parent=True))
    journal.close()
    sync([lab.journal()], lab.uri, lab.results)
    [old], _ = parents()
    identity = replace(lab.identity(parent=True), parent=lab.chain_of("2"))
    with stage_run(lab.journal(), identity, uri=lab.uri, results_dir=lab.results, every=0) as run:
        assert lab.run().data.tags["mlflow.parentRunId"] == old.info.run_id
        run.metrics({"loss": 1.0}, step=1)
        [new], _ = parents()
        assert lab.run().data.tags["mlflow.parentRunId"] == new.info.run_id


@pytest.mark.slow
@pytest.mark.parametrize("change", ["settings", "values"])
def test_replacement_that_is_killed_anywhere_is_made_good(lab, level, parents, chart, send, monkeypatch, change):
    chain = "2" if change == "settings" else "1"
    call, left = Connection.call, 0

    def fail(self, method, *args, **kwargs):
        nonlocal left
        if self._lock.is_locked and method in {"create_run", "log_batch", "set_terminated"}:
            left -= 1
            if left == 0:
                raise TrackingError("killed")
        return call(self, method, *args, **kwargs)

    for number in range(1, 40):
        level(30, 0.75, dense=0.875, uri=DEAD)
        level(70, 0.5, uri=DEAD)
        send()
        level(30, 0.625, dense=0.875, chain=chain, uri=DEAD)
        level(70, 0.25, chain=chain, uri=DEAD)
        left = number
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "call", fail)
            send()
        send()
        [run], replaced = parents()
        assert replaced
        assert chart(run) == {0: 0.875, 30: 0.625, 70: 0.25}
        for key in ("evaluate30", "evaluate70"):
            assert lab.runs(key)[-1].data.tags["mlflow.parentRunId"] == run.info.run_id
        if left > 0:
            break
        lab.client.delete_experiment(lab.client.get_experiment_by_name(lab.experiment).experiment_id)
        lab.experiment += "x"
        lab.folder.mkdir()
    assert left > 0, "the last pass was not interrupted: every call was, once"
    assert number > 6


FORKS = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from oba.tracking import RunIdentity, connection, run, stage_run, sync

connection.LOCK_SECONDS = run.ALLOWANCE = 300.0
results, uri, experiment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
connection.Connection(uri, results)._import()
journals = [results / experiment / "journal" / f"evaluate{number}.jsonl" for number in range(4)]

def together(count, work):
    begin, children = time.time() + 0.2, []
    for number in range(count):
        child = os.fork()
        if not child:
            time.sleep(max(0, begin - time.time()))
            work(number)
            os._exit(0)
        children.append(child)
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)

def evaluate(attempt, offset):
    def work(number):
        parent = RunIdentity(experiment, "chain", "chain 1", attempt=attempt)
        identity = RunIdentity(experiment, f"evaluate{number}", "e", parent, attempt=f"{attempt} {offset}")
        with stage_run(journals[number], identity, uri=uri, results_dir=results) as stage:
            value = number / 8 + offset
            stage.chain_metrics({"test_top1": value, "latency_ms": 10 * value}, step=number)
    return work

together(4, evaluate("1", 0))
together(4, evaluate("2", 1))
together(4, evaluate("2", 2))
together(3, lambda number: sync(journals[number:] + journals[:number], uri, results))
print(sync(journals, uri, results).updated)
"""


def test_many_processes_replace_a_chain_once(lab, parents, chart):
    # MLflow may have threads; the children only write to the store.
    command = [
        sys.executable,
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        FORKS,
        str(lab.results),
        lab.uri,
        lab.experiment,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    [run], replaced = parents()
    assert [chart(old) for old in replaced] == [
        {number: number / 8 for number in range(4)},
        {number: number / 8 + 1 for number in range(4)},
    ]
    assert chart(run) == {number: number / 8 + 2 for number in range(4)}
    for number in range(4):
        assert lab.runs(f"evaluate{number}")[-1].data.tags["mlflow.parentRunId"] == run.info.run_id
