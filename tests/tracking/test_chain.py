"""Parents of chains: one current run each, one point per step, whatever is extended, repeated, late or back again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oba.tracking import begin, stage_run, sync

DEAD = "http://127.0.0.1:1"


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


def test_chain_has_parameters_also_if_its_run_is_replaced_or_was_made_without(lab, parents, send):
    def level(removed, top1, params, when="1"):
        chain = replace(lab.chain, params=params)
        identity = replace(lab.identity(f"evaluate{removed}"), parent=chain, attempt=when)
        with stage_run(lab.journal(identity.key), identity, uri=lab.uri, results_dir=lab.results) as run:
            run.chain_metrics({"test_top1": top1}, step=removed)

    level(30, 0.9, {})  # an earlier version
    assert parents()[0][0].data.params == {}
    level(60, 0.8, {"criterion": "taylor", "seed": "0"})
    assert parents()[0][0].data.params == {"criterion": "taylor", "seed": "0"}
    level(60, 0.7, {"criterion": "taylor", "seed": "0"}, when="2")
    send()
    (current,), (old,) = parents()
    assert current.data.params == old.data.params == {"criterion": "taylor", "seed": "0"}
    assert current.data.metrics == {"test_top1": 0.7}
