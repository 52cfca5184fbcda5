"""A server that answers late is asked again and creates a run twice: one is adopted, the other closed."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from oba.tracking import stage_run, sync

pytestmark = pytest.mark.slow
CREATE = "/api/2.0/mlflow/runs/create"


class Late(ThreadingHTTPServer):
    """Passes requests on to a server, and withholds the first answer about each run until it was asked for again."""

    daemon_threads = True

    def __init__(self, uri: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.uri = uri, f"http://127.0.0.1:{self.server_address[1]}"
        self.created: dict[bytes, threading.Event] = {}


class Handler(BaseHTTPRequestHandler):
    server: Late

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        late = None
        if self.path == CREATE:
            if body in self.server.created:
                again = self.server.created[body]
            else:
                again, late = None, self.server.created.setdefault(body, threading.Event())
        headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
        request = urllib.request.Request(self.server.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                status, content = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if late is not None:
            late.wait(300)
        elif self.path == CREATE and again is not None:
            again.set()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            assert late is not None, "only whom nobody waits for any more may be gone"

    do_GET = do_POST = do_PATCH = do_PUT = answer

    def log_message(self, format, *args):
        pass


@pytest.fixture
def late(server):
    late = Late(server.uri)
    thread = threading.Thread(target=late.serve_forever)
    thread.start()
    yield late
    late.shutdown()
    thread.join()
    late.server_close()


def active(site, key):
    """Return the only run of a key that was not deleted."""
    (run,) = [run for run in site.runs(key) if run.info.lifecycle_stage == "active"]
    return run


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_second_runs_of_stages_and_chains_are_closed(late, site, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with stage_run(site.journal(), site.identity(parent=True), uri=late.uri, results_dir=site.results, every=0) as run:
        run.params({"lr": 0.1})
        run.metrics({"loss": 0.5}, step=1)
        run.chain_metrics({"test_top1": 0.75}, step=30)
    assert len(late.created) == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    for key in ("stage", "chain"):
        assert sorted(run.info.status for run in site.runs(key)) == ["FINISHED", "RUNNING"]
    for _ in range(2):
        sync([site.journal()], late.uri, site.results)
        for key in ("stage", "chain"):
            assert active(site, key).info.status == "FINISHED"
            assert len(site.runs(key)) == 2
        assert active(site, "stage").data.tags["mlflow.parentRunId"] == active(site, "chain").info.run_id
        assert site.history(active(site, "stage")) == site.reported()
        assert [(step, value) for _, step, _, value in site.history(active(site, "chain"))] == [(30, 0.75)]
