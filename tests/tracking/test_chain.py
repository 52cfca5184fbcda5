"""Parents of chains: one current run each, one point per step, no matter what changed, ran again or was killed."""

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


@pytest.fixture
def level(lab):
    """Evaluate one level of the chain: a stage that reports to its parent."""

    def level(removed, top1, *, chain="1", uri=lab.uri, upstream=(), dense=None):
        key = f"evaluate{removed}"
        identity = replace(lab.identity(key, parent=True), parent=lab.chain_of(chain), attempt=f"{chain} {top1}")
        with stage_run(lab.journal(key), identity, uri=uri, results_dir=lab.results, upstream=upstream) as run:
            run.chain_metrics({"test_top1": top1, "latency_ms": 10 * top1}, step=removed)
            if dense:
                run.chain_metrics({"test_top1": dense, "latency_ms": 10 * dense}, step=0)

    return level


@pytest.fixture
def parents(lab):
    """Return the chain's runs: the current ones, and those that were replaced."""

    def parents():
        runs = lab.runs("chain")
        replaced = [run for run in runs if "superseded_by" in run.data.tags]
        assert all(run.info.status != "RUNNING" for run in replaced)
        return [run for run in runs if run not in replaced], replaced

    return parents


@pytest.fixture
def chart(lab):
    """Return the accuracies of a run by step, of which none has two points."""

    def chart(run):
        points = lab.history(run)
        assert len(points) == len({point[:2] for point in points})
        accuracy = {step: value for key, step, _, value in points if key == "test_top1"}
        assert {step: value for key, step, _, value in points if key == "latency_ms"} == {
            step: 10 * value for step, value in accuracy.items()
        }
        assert not accuracy or run.data.metrics["test_top1"] == accuracy[max(accuracy)]
        return accuracy

    return chart


@pytest.fixture
def send(lab):
    """Send all journals and return how many had something new."""
    return lambda: sync(sorted(lab.folder.glob("journal/*.jsonl")), lab.uri, lab.results).updated


def snapshot(lab):
    """Return all that a reader sees of the chain's runs and of the current runs of its stages."""
    keys = ["chain", *(path.stem for path in sorted(lab.folder.glob("journal/*.jsonl")))]
    return [(run.to_dictionary(), lab.history(run)) for key in keys for run in lab.runs(key)]


def test_latest_value_of_a_chain_is_that_of_the_smallest_net(lab, level, parents, chart):
    level(70, 0.5)
    level(30, 0.75, dense=0.875)
    [run], replaced = parents()
    assert replaced == []
    assert chart(run) == {0: 0.875, 30: 0.75, 70: 0.5}
    assert run.data.metrics["test_top1"] == 0.5
    assert run.info.status == "FINISHED"


def test_further_level_extends_the_chain(lab, level, parents, chart):
    level(30, 0.75, dense=0.875)
    assert begin(lab.experiment, lab.uri, lab.results)
    level(70, 0.5)
    [run], replaced = parents()
    assert replaced == []
    assert chart(run) == {0: 0.875, 30: 0.75, 70: 0.5}


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


def test_chain_whose_stages_ran_again_with_equal_values_stays(lab, level, parents, chart, send):
    for _ in range(2):
        level(30, 0.75)
    send()
    [run], replaced = parents()
    assert replaced == []
    assert chart(run) == {30: 0.75}
    assert len(lab.runs("evaluate30")) == 2


def test_latest_report_of_a_point_counts_in_whatever_order_journals_are_sent(lab, level, parents, chart, send):
    level(30, 0.75, dense=0.5, uri=DEAD)
    level(10, 0.8125, dense=0.875, uri=DEAD)  # now the first level, which draws the dense net
    level(30, 0.75, dense=0.625)
    for _ in range(2):
        sync([lab.journal("evaluate10")], lab.uri, lab.results)
    [run], replaced = parents()
    assert replaced == []
    assert chart(run) == {0: 0.625, 10: 0.8125, 30: 0.75}


def test_chain_that_comes_back_to_earlier_settings_goes_on_in_its_earlier_run(lab, level, parents, chart, send):
    level(30, 0.75)
    level(50, 0.625, chain="2")
    level(90, 0.125, chain="2", uri=DEAD)
    level(70, 0.5)
    [run], [other] = parents()
    assert other.data.tags["superseded_by"] == run.info.run_id
    assert chart(run) == {30: 0.75, 70: 0.5}
    send()  # what the other settings left does not bring them back
    [run], [other] = parents()
    assert (chart(run), chart(other)) == ({30: 0.75, 70: 0.5}, {50: 0.625, 90: 0.125})


def test_chain_that_came_back_stays_when_its_run_is_renewed(lab, level, parents, chart):
    level(30, 0.75)
    level(50, 0.625, chain="2")
    level(90, 0.125, chain="2", uri=DEAD)
    level(30, 0.875)
    for key in ("evaluate30", "evaluate90"):
        sync([lab.journal(key)], lab.uri, lab.results)
    [run], replaced = parents()
    assert chart(run) == {30: 0.875}
    assert len(replaced) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_late_journal_of_an_attempt_that_was_given_up_replaces_nothing(lab, level, parents, chart, order):
    level(70, 0.5, chain="1", uri=DEAD)  # did not run again
    level(30, 0.625, chain="2", uri=DEAD)
    sync([lab.journal("evaluate70"), lab.journal("evaluate30")][::order], lab.uri, lab.results)
    [new], [old] = parents()
    assert (chart(new), chart(old)) == ({30: 0.625}, {70: 0.5})


def test_chain_that_somebody_deleted_stays_deleted(lab, level):
    level(70, 0.5)
    lab.client.delete_run(lab.run("chain").info.run_id)
    level(30, 0.75)
    assert lab.run("chain").info.lifecycle_stage == "deleted"
    assert "mlflow.parentRunId" not in lab.run("evaluate30").data.tags


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
