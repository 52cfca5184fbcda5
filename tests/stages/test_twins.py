"""What one experiment has finished, another with the same settings, images and code takes over."""

from __future__ import annotations

import json
import logging

import pytest

from oba.dag import STAGES
from oba.layout import Layout
from oba.made import read_run
from oba.stages import job as jobs
from oba.tracking.journal import last_points, read_attempt

ALL = ("prepare", "split", "trace", "dense", "evaluate_dense")


@pytest.fixture
def second(bench):
    """Another experiment beside a finished one, of the same settings."""
    bench.execute(*ALL)
    return type(bench)(bench.root, bench.study.model_copy(update={"experiment": "second"}))


@pytest.fixture
def worked(monkeypatch):
    """The stages that really work from now on."""
    done, imported = [], jobs.imported

    def noted(name):
        done.append(name.rpartition(".")[2])
        return imported(name)

    monkeypatch.setattr(jobs, "imported", noted)
    return done


def test_a_sweep_of_the_same_settings_does_nothing_again(bench, second, worked):
    second.execute(*ALL)
    assert worked == []
    for name in ALL:
        *files, record = zip(bench.outputs(name), second.outputs(name), strict=True)
        assert all(old.read_bytes() == new.read_bytes() for old, new in files)
        assert all(old.stat().st_ino != new.stat().st_ino for old, new in files), "damage stays where it is"
        old, new = (json.loads(path.read_text()) for path in record)
        assert (old["key"], new["taken_from"]) == (new["key"], bench.study.experiment)
        assert all(path.startswith(("results/second/", "net.safetensors")) for path in new["inputs"])
        read_run(record[1])
    second.execute(*ALL)
    assert worked == []


def test_its_runs_show_what_the_first_ones_showed(bench, second):
    second.execute(*ALL)
    for name in ("dense", "evaluate_dense"):
        place = STAGES[name].place(bench.layout, jobs.Coordinates("resnet8", 0))
        old, new = (read_attempt(Layout(each.study.experiment).journals / f"{place}.jsonl") for each in (bench, second))
        old_points, new_points = (
            {at: value for at, (value, _) in last_points(attempt.events, "metrics").items()} for attempt in (old, new)
        )
        assert old_points == new_points != {}
        assert new.state[0] == "FINISHED"
        shown = [e.fields["path"] for e in new.events if e.kind == "artifact"]
        assert [f"tiny/{path.removeprefix('second/')}" for path in shown] == [
            e.fields["path"] for e in old.events if e.kind == "artifact"
        ]
        assert all(path.startswith("second/") for path in shown)


def test_other_settings_are_other_work(second, worked):
    second.execute("prepare", "split")
    dense = second.study.dense.model_copy(update={"lr": 0.01, "epochs": 1})
    models = [model.model_copy(update={"dense": dense}) for model in second.study.models]
    second.study = second.study.model_copy(update={"models": models, "dense": dense})
    second.execute("dense")
    assert worked == ["dense"]


def test_damaged_results_are_not_taken(bench, second, worked, caplog):
    second.execute("prepare", "split")
    [kept] = bench.state("dense").glob("*-finished")
    metrics = next(kept.glob("*-metrics.json"))
    metrics.write_bytes(metrics.read_bytes().replace(b"0", b"1"))
    with caplog.at_level(logging.WARNING):
        second.execute("dense")
    assert worked == ["dense"]
    assert "damaged: not what it was when it was kept" in caplog.text
    assert "taken_from" not in json.loads(second.outputs("dense")[-1].read_text())


@pytest.mark.parametrize("text", ["{", "[]", '{"x-model.safetensors": "0"}', "{}"])
def test_a_damaged_list_of_results_is_not_believed(bench, second, worked, text):
    second.execute("prepare", "split")
    [kept] = bench.state("dense").glob("*-finished")
    (kept / "digests.json").write_text(text)
    second.execute("dense")
    assert worked == ["dense"]
