"""Sixteen stages that meet a fresh store in the same moment, with the limits of real stages: nothing is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from oba.tracking import resolve_uri, sync

pytestmark = pytest.mark.slow
# Imports mlflow once and forks, so that all meet the store in the same moment.
FORKS = """
import os, sys, time
from pathlib import Path
from oba.tracking import RunIdentity, connection, stage_run

results, uri, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
connection.Connection(uri, results)._import()
begin, children = time.time() + 0.5, []
for number in range(16):
    child = os.fork()
    if child:
        children.append(child)
        continue
    time.sleep(max(0, begin - time.time()))
    chain = RunIdentity("fork", f"chain{number % 4}", "chain")
    identity = RunIdentity("fork", f"stage{number}", "s", chain)
    with stage_run(folder / f"stage{number}.jsonl", identity, uri=uri, results_dir=results) as stage:
        stage.params({"number": number})
        for step in range(1, 6):
            stage.metrics({"loss": number / step}, step=step)
        stage.chain_metrics({"test_top1": number / 16}, step=number)
    os._exit(0)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


def check(lab_type, results: Path, uri: str) -> None:
    """Run sixteen stages, send what was not sent at once, and compare every run with its journal."""
    folder = results / "fork" / "journal"
    folder.mkdir(parents=True)
    # MLflow may have threads; the children only write to the store.
    ignore = "ignore:This process:DeprecationWarning"
    command = [sys.executable, "-W", ignore, "-c", FORKS, str(results), uri, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all("`oba sync` sends this run later" in line for line in done.stderr.splitlines())
    journals = [folder / f"stage{number}.jsonl" for number in range(16)]
    report = sync(journals, uri, results)
    assert (report.refused, report.busy, report.closed) == ({}, 0, 0)
    again = sync(journals, uri, results)
    assert (again.updated, again.metrics, again.refused) == (0, 0, {})
    lab = lab_type(results, uri, "fork")
    for number in range(16):
        run = lab.run(f"stage{number}")
        assert (run.info.status, run.data.params) == ("FINISHED", {"number": str(number)})
        assert lab.history(run) == lab.reported(f"stage{number}")
        assert run.data.tags["mlflow.parentRunId"] == lab.run(f"chain{number % 4}").info.run_id
    for chain in range(4):
        points = [(step, value) for _, step, _, value in lab.history(lab.run(f"chain{chain}"))]
        assert points == [(number, number / 16) for number in range(chain, 16, 4)]
        assert lab.run(f"chain{chain}").info.status == "FINISHED"


def test_sixteen_stages_on_a_fresh_file(lab, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "oba"):
        check(type(lab), tmp_path / "results", resolve_uri(None, tmp_path / "results"))
    assert caplog.records == []


def test_sixteen_stages_on_a_fresh_database(lab, tmp_path, postgres):
    check(type(lab), tmp_path / "results", postgres.new_database())


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_sixteen_stages_at_a_server(lab, tmp_path, server):
    check(type(lab), tmp_path / "results", server.uri)
