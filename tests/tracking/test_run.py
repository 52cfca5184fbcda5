"""Stages report, end, fail, die and go on; the tracking server never stops them."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from decimal import Decimal
from types import SimpleNamespace

import pytest

from oba.errors import TrackingError
from oba.tracking import run as module
from oba.tracking import stage_run
from oba.tracking.forward import Forwarder
from oba.tracking.journal import last_points, read_attempt
from oba.tracking.run import flatten


@pytest.fixture
def stage(lab):
    """Start a stage of the laboratory."""

    def stage(key="stage", *, uri=lab.uri, parent=False, tags=None, **options):
        identity = lab.identity(key, parent=parent, **(tags or {}))
        return stage_run(lab.journal(key), identity, uri=uri, results_dir=lab.results, **options)

    return stage


@pytest.fixture
def passes(monkeypatch):
    """Count the passes to MLflow, which do nothing."""
    passes = []
    monkeypatch.setattr(Forwarder, "forward", lambda self: passes.append(self))
    return passes


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    return clock


def test_stage_arrives_whole(lab, stage):
    folder = lab.folder / "net"
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    with stage(parent=True, tags={"seed": "3"}) as run:
        run.params({"train": {"lr": 0.1, "milestones": [1, 2]}, "name with (brackets)": None, "long": "x" * 9000})
        run.tags({"job": "17", "none": ""})
        for epoch in (1, 2, 3):
            run.metrics({"val_top1": Decimal(epoch) / 4, "loss!": 1 / epoch}, step=epoch)
        run.metrics({"macs_kept": 0.3})
        run.chain_metrics({"test_top1": 0.75}, step=30)
        run.artifact(folder / "metrics.json", folder="net")
    found = lab.run()
    assert found.data.params == {
        "train.lr": "0.1",
        "train.milestones": "[1, 2]",
        "name with _brackets_": "None",
        "long": "x" * 6000,
    }
    assert found.data.tags.items() >= {"seed": "3", "job": "17"}.items()
    assert "none" not in found.data.tags
    assert lab.history(found) == lab.reported()
    assert [point[:2] for point in lab.history(found)] == [
        ("loss_", 1),
        ("loss_", 2),
        ("loss_", 3),
        ("macs_kept", 0),
        ("val_top1", 1),
        ("val_top1", 2),
        ("val_top1", 3),
    ]
    assert lab.artifacts(found) == {"net/metrics.json": 2}
    assert found.info.status == "FINISHED"
    assert [(key, step, value) for key, step, _, value in lab.history(lab.run("chain"))] == [("test_top1", 30, 0.75)]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_failure_is_recorded_and_goes_on(lab, stage, error, status):
    def fail():
        with stage() as run:
            run.metrics({"loss": 1.0}, step=1)
            raise error("mine")

    with pytest.raises(error, match="mine"):
        fail()
    assert lab.run().info.status == status
    assert lab.history(lab.run()) == lab.reported()


def test_artifacts_lie_in_the_results(lab, stage, tmp_path, passes):
    with stage() as run, pytest.raises(ValueError, match="is not in the subpath"):
        run.artifact(tmp_path / "elsewhere.txt")


def test_experiment_folder_may_be_a_link_to_another_disk(lab, stage, tmp_path):
    scratch = tmp_path / "scratch"
    lab.folder.rename(scratch)
    lab.folder.symlink_to(scratch)
    (lab.folder / "note.txt").write_text("note")
    with stage() as run:
        run.artifact(lab.folder / "note.txt")
    assert lab.artifacts(lab.run()) == {"note.txt": 4}


def test_results_may_be_named_by_a_link_and_their_files_by_their_place(lab, tmp_path):
    (tmp_path / "link").symlink_to(lab.results)
    (lab.folder / "note.txt").write_text("note")
    with stage_run(lab.journal(), lab.identity(), uri=lab.uri, results_dir=tmp_path / "link") as run:
        run.artifact(lab.folder / "note.txt")
    assert lab.artifacts(lab.run()) == {"note.txt": 4}


def test_passes_are_made_now_and_then_and_at_the_end(stage, passes, clock):
    with stage(every=30) as run:
        for _ in range(65):
            clock.now += 1
            run.metrics({"loss": 1.0}, step=1)
        assert len(passes) == 2
    assert len(passes) == 3


def test_short_stages_can_be_left_to_sync(stage, passes, clock):
    with stage(min_seconds=20):
        clock.now += 19
    assert passes == []
    with stage(min_seconds=20):
        clock.now += 20
    assert len(passes) == 1


@pytest.mark.parametrize("error", [TrackingError("http://x cannot be reached"), RuntimeError("of any\nkind")])
def test_first_failure_is_one_line_and_the_last_try(lab, stage, monkeypatch, caplog, error):
    tries = []

    def fail(self):
        tries.append(self)
        raise error

    monkeypatch.setattr(Forwarder, "forward", fail)
    with caplog.at_level(logging.WARNING, "oba"), stage(every=0) as run:
        for epoch in range(1, 6):
            run.metrics({"loss": 1.0}, step=epoch)
    assert len(tries) == 1
    (record,) = caplog.records
    message = " ".join(str(error).split())
    assert record.getMessage() == f"tracking: {message}; `oba sync` sends this run later"
    assert len(lab.reported()) == 5


def test_long_stage_tries_again_after_a_while(lab, stage, monkeypatch, caplog, clock):
    tries, real = [], Forwarder.forward

    def fail_twice(self):
        tries.append(clock.now)
        if len(tries) <= 2:
            raise TrackingError("http://x cannot be reached")
        return real(self)

    monkeypatch.setattr(Forwarder, "forward", fail_twice)
    with caplog.at_level(logging.WARNING, "oba"), stage(every=30) as run:
        for epoch in range(1, 80):
            clock.now += 60
            run.metrics({"loss": 1.0 / epoch}, step=epoch)
    assert tries[:3] == [1060.0, 1060.0 + 1800, 1060.0 + 3600]
    assert len(caplog.records) == 1
    assert lab.history(lab.run()) == lab.reported()
    assert len(lab.reported()) == 79


def test_dead_server_stops_nothing(lab, stage, caplog):
    with caplog.at_level(logging.WARNING, "oba"), stage(uri="http://127.0.0.1:1", every=0, parent=True) as run:
        run.params({"lr": 1})
        run.metrics({"loss": 1.0}, step=1)
        run.metrics({"loss": 0.5}, step=2)
    (record,) = caplog.records
    assert "http://127.0.0.1:1 cannot be reached" in record.getMessage()
    assert "`oba sync`" in record.getMessage()
    attempt = read_attempt(lab.journal())
    assert attempt.state[0] == "FINISHED"
    assert len(last_points(attempt.events, "metrics")) == 2


def test_tracking_leaves_random_numbers_alone(lab, stage):
    import numpy as np

    random.seed(5)
    np.random.seed(5)
    wanted = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    with stage(every=0) as run:
        run.metrics({"loss": 1.0}, step=1)
    assert (random.random(), np.random.rand()) == wanted


KILLED = """
import os, sys, time
from pathlib import Path
from oba.tracking import RunIdentity, stage_run

journal, results, uri, experiment = sys.argv[1:]
identity = RunIdentity(experiment, "stage", "name of stage")
with stage_run(Path(journal), identity, uri=uri, results_dir=Path(results), every=0) as run:
    run.params({"lr": 0.1})
    for epoch in (1, 2, 3):
        run.metrics({"loss": 1 / epoch, "top1": epoch / 4}, step=epoch)
    run._every = 1e9
    run.metrics({"loss": 0.1, "top1": 0.9}, step=4)
    print("ready", flush=True)
    time.sleep(600)
"""


def test_killed_stage_goes_on_in_the_same_run(lab, stage):
    command = [sys.executable, "-c", KILLED, str(lab.journal()), str(lab.results), lab.uri, lab.experiment]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with lab.journal().open("ab") as stream:
        stream.write(b'{"event": "metrics", "time": 1')
    left = lab.run()
    assert left.info.status == "RUNNING"
    sent = lab.history(left)
    assert [point[1] for point in sent] == [1, 2, 3, 1, 2, 3]
    with stage(every=0) as run:
        run.params({"lr": 0.1})
        for epoch in (3, 4, 5):
            run.metrics({"loss": 1 / epoch, "top1": epoch / 4}, step=epoch)
    found = lab.run()
    assert found.info.run_id == left.info.run_id
    assert found.info.status == "FINISHED"
    history = lab.history(found)
    assert [point[1] for point in history] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    assert [point for point in history if point[1] <= 3] == sent


def test_points_of_a_killed_process_are_not_reported_again(lab, stage, passes):
    def fail():
        with stage() as run:
            run.metrics({"loss!": 0.5, "seconds": 1.5}, step=1)
            run.metrics({"top1": 0.25})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with stage() as run:
        run.metrics({"loss!": 0.5, "seconds": 1.75}, step=1)
        run.metrics({"loss!": 0.25, "seconds": 1.5}, step=2)
        run.metrics({"top1": 0.25})
    attempt = read_attempt(lab.journal())
    events = [(event.fields["step"], event.fields["values"]) for event in attempt.events if event.kind == "metrics"]
    assert events == [
        (1, {"loss_": 0.5, "system/seconds": 1.5}),
        (0, {"top1": 0.25}),
        (1, {"system/seconds": 1.75}),
        (2, {"loss_": 0.25, "system/seconds": 1.5}),
    ]


def test_settings_are_flattened():
    nested = {"a": {"b": {"c": 1}, "empty": {}}, "d": True, "e": None, "f": [0.7, 0.5]}
    assert flatten(nested) == {"a.b.c": "1", "a.empty": "{}", "d": "True", "e": "None", "f": "[0.7, 0.5]"}
