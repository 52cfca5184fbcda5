"""A real tracking server: sent to, killed in the middle, started again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from oba.errors import TrackingError
from oba.tracking import RunIdentity, begin, stage_run, sync

pytestmark = pytest.mark.slow
START_SECONDS = 180


class Server:
    """``mlflow server`` with its own SQLite store and artifacts, on a port that stays the same."""

    def __init__(self, folder: Path, store: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.folder, self.store = folder, store
        self.uri = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", self.uri.rsplit(":")[-1]]
        command += ["--workers", "1", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ
                | {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(self.folder), "TMPDIR": str(self.folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path, new_store):
    folder = tmp_path / "server"
    server = Server(folder, new_store(folder))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def site(server, shared, lab):
    """A results folder that reports to the server."""
    return type(lab)(lab.results, server.uri, lab.experiment)


def test_server_gets_everything_and_missed_parts_later(server, site, caplog, monkeypatch):
    """One story, since a server takes long to start."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    chain = site.chain
    assert begin(site.experiment, [chain], site.uri, site.results)
    report = site.folder / "report.txt"
    report.write_text("report")

    def stage(key: str):
        identity = RunIdentity(site.experiment, key, key, chain)
        return stage_run(site.journal(key), identity, uri=site.uri, results_dir=site.results, every=0)

    with stage("whole") as run:
        run.params({"lr": 0.1})
        run.metrics({"loss": 0.5}, step=1)
        run.artifact(report, folder="tables")
        run.chain_metrics({"test_top1": 0.9}, step=70)
    whole = site.run("whole")
    assert site.history(whole) == site.reported("whole")
    assert whole.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert site.artifacts(whole) == {"tables/report.txt": 6}
    assert not (site.results / "mlartifacts" / site.experiment).exists()

    with caplog.at_level(logging.WARNING, "oba"), stage("cut") as run:
        run.params({"lr": 0.2})
        for step in (1, 2):
            run.metrics({"loss": 1 / step, "top1": step / 9}, step=step)
        server.kill()
        for step in (3, 4, 5):
            run.metrics({"loss": 1 / step, "top1": step / 9}, step=step)
        run.artifact(report)
        run.chain_metrics({"test_top1": 0.8}, step=30)
    (record,) = caplog.records
    assert "`oba sync` sends this run later" in record.getMessage()
    with stage("unseen") as run:
        run.metrics({"loss": 7.0}, step=1)
    journals = [site.journal(key) for key in ("whole", "cut", "unseen")]
    with pytest.raises(TrackingError, match=r"cannot be reached"):
        sync(journals, site.uri, site.results)

    server.start()
    assert site.run("cut").info.status == "RUNNING"
    assert [point[1] for point in site.history(site.run("cut"))] == [1, 2, 1, 2]
    done = sync(journals, site.uri, site.results)
    assert (done.updated, done.metrics, done.artifacts) == (2, 7, 1)
    for key in ("whole", "cut", "unseen"):
        found = site.run(key)
        assert site.history(found) == site.reported(key)
        assert found.info.status == "FINISHED"
        assert found.data.tags["mlflow.parentRunId"] == site.run("chain").info.run_id
    assert site.artifacts(site.run("cut")) == {"report.txt": 6}
    points = site.history(site.run("chain"))
    assert [(step, value) for _, step, _, value in points] == [(30, 0.8), (70, 0.9)]
    again = sync(journals, site.uri, site.results)
    assert (again.updated, again.metrics) == (0, 0)
    assert site.history(site.run("chain")) == points


def test_server_that_hangs_is_given_up(server, site, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    identity = site.identity()
    assert begin(site.experiment, [], site.uri, site.results)
    with (
        caplog.at_level(logging.WARNING, "oba"),
        stage_run(site.journal(), identity, uri=site.uri, results_dir=site.results, every=0) as run,
    ):
        run.metrics({"loss": 1.0}, step=1)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        os.killpg(server.process.pid, signal.SIGSTOP)
        for step in range(2, 20):
            run.metrics({"loss": 1.0 / step}, step=step)
        os.killpg(server.process.pid, signal.SIGCONT)
    (record,) = caplog.records
    assert "ReadTimeoutError" in record.getMessage()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert [point[1] for point in site.history(site.run())][:1] == [1]
    assert sync([site.journal()], site.uri, site.results).updated == 1
    assert site.history(site.run()) == site.reported()
