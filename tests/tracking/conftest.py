"""A real store, which six processes set up together; each test has an experiment of its own in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from oba.imports import importing
from oba.tracking import RunIdentity, resolve_uri, stage_run, sync
from oba.tracking.journal import read_attempt
from oba.tracking.quiet import PATIENT, quiet

REPOSITORY = Path(__file__).parents[2]
# Imports mlflow once and forks, so that six processes meet the fresh store in the same moment.
FORKS = """
import os, sys
from pathlib import Path
from oba.tracking import RunIdentity, connection, resolve_uri, run, stage_run, sync

# A busy machine may be slow; what is tested is that nobody gets in another's way.
connection.LOCK_SECONDS = run.ALLOWANCE = 300.0
results = Path("../results")
uri = resolve_uri(None, results)
connection.Connection(uri, results)._import()
children = []
for number in range(6):
    child = os.fork()
    if child:
        children.append(child)
        continue
    chain = RunIdentity("fork", "chain", "chain")
    journal = results / "fork" / f"{number}.jsonl"
    with stage_run(journal, RunIdentity("fork", f"stage{number}", "s", chain), uri=uri, results_dir=results) as stage:
        stage.params({"number": number})
        for step in range(1, 21):
            stage.metrics({"a": step, "b": -step}, step=step)
        note = results / "fork" / f"{number}.txt"
        note.write_text("note")
        stage.artifact(note)
        stage.chain_metrics({"test_top1": number / 10}, step=number)
    os._exit(0)
assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
print(sync(sorted(results.glob("fork/*.jsonl")), uri, results))
"""


def environment(**values: str) -> dict[str, str]:
    """Return the surroundings of a user who has set nothing, with some values."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTEST"))}
    return mine | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error"} | values


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch):
    """Let no test fail because the machine has other things to do."""
    for name in ("run.ALLOWANCE", "mirror.ALLOWANCE", "connection.LOCK_SECONDS"):
        monkeypatch.setattr(f"oba.tracking.{name}", 300.0)


@dataclass
class Setup:
    """What six processes did that met a fresh store together.

    Attributes:
        root: Folder with their ``results`` and, empty before, ``cwd``, ``home`` and ``tmp``.
        output: What they printed.
        errors: What they printed to stderr.
    """

    root: Path
    output: str
    errors: str


@pytest.fixture(scope="session")
def setup(tmp_path_factory) -> Setup:
    """Six processes on a fresh store, in an empty working directory and home."""
    root = tmp_path_factory.mktemp("setup")
    for name in ("cwd", "home", "tmp"):
        (root / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        cwd=root / "cwd",
        env=environment(HOME=str(root / "home"), TMPDIR=str(root / "tmp"), XDG_CONFIG_HOME=str(root / "home")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Setup(root, done.stdout, done.stderr)


@dataclass
class Lab:
    """A results folder with its store, an experiment, and a look into all."""

    results: Path
    uri: str
    experiment: str = "exp"

    def __post_init__(self) -> None:
        with quiet(PATIENT), importing():
            from mlflow import MlflowClient

            self.client = MlflowClient(self.uri)

    @property
    def folder(self) -> Path:
        return self.results / self.experiment

    @property
    def chain(self) -> RunIdentity:
        return self.chain_of("1")

    def chain_of(self, attempt: str) -> RunIdentity:
        return RunIdentity(self.experiment, "chain", "chain 1", tags={"kind": "chain"}, attempt=attempt)

    def identity(self, key: str = "stage", *, parent: bool = False, **tags: str) -> RunIdentity:
        return RunIdentity(self.experiment, key, f"name of {key}", self.chain if parent else None, tags)

    def journal(self, key: str = "stage") -> Path:
        return self.folder / "journal" / f"{key}.jsonl"

    def runs(self, key: str = "stage") -> list:
        """Return the runs of a key, the oldest first."""
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            return []
        runs = self.client.search_runs([found.experiment_id], f"tags.stage_key = '{key}'", run_view_type=3)
        return sorted(runs, key=lambda run: run.info.start_time)

    def run(self, key: str = "stage"):
        """Return the only run of a key."""
        (run,) = self.runs(key)
        return run

    def history(self, run) -> list[tuple[str, int, int, float]]:
        """Return all points of a run: name, step, time, value."""
        points = [p for key in run.data.metrics for p in self.client.get_metric_history(run.info.run_id, key)]
        return sorted((p.key, p.step, p.timestamp, p.value) for p in points)

    def artifacts(self, run) -> dict[str, int]:
        """Return the files of a run with their sizes."""
        found, folders = {}, [None]
        while folders:
            for entry in self.client.list_artifacts(run.info.run_id, folders.pop()):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    found[entry.path] = entry.file_size
        return found

    def reported(self, key: str = "stage") -> list[tuple[str, int, int, float]]:
        """Return what a journal's attempt reports, as :meth:`history` does; the last value of a step counts."""
        attempt = read_attempt(self.journal(key))
        assert attempt is not None
        points = {
            (name, event.fields["step"]): (event.time, value)
            for event in attempt.events
            if event.kind == "metrics"
            for name, value in event.fields["values"].items()
        }
        return sorted((*place, *point) for place, point in points.items())

    def cursor(self, key: str = "stage") -> dict:
        return json.loads(Path(f"{self.journal(key)}.sent").read_text())


def copy_of_store(setup: Setup, results: Path) -> str:
    """Put a copy of the store into a folder and return its address."""
    results.mkdir(exist_ok=True)
    shutil.copy(setup.root / "results" / "mlflow.db", results)
    return resolve_uri(None, results)


@pytest.fixture(scope="session")
def shared(setup: Setup, tmp_path_factory) -> tuple[Path, str]:
    """One store for all tests that do it no harm, in a folder with a name that addresses must escape."""
    results = tmp_path_factory.mktemp("shared") / "my results 100%"
    return results, copy_of_store(setup, results)


@pytest.fixture
def lab(shared: tuple[Path, str]) -> Lab:
    """A new experiment in the shared store."""
    lab = Lab(*shared, experiment=f"exp-{uuid.uuid4().hex}")
    lab.folder.mkdir()
    return lab


@pytest.fixture
def own_lab(setup: Setup, tmp_path: Path) -> Lab:
    """A store for one test alone, to be harmed."""
    return Lab(tmp_path / "results", copy_of_store(setup, tmp_path / "results"))


@pytest.fixture
def new_store(setup: Setup) -> Callable[[Path], str]:
    """Put another, empty store into a folder, in the place of what is there."""
    return lambda results: copy_of_store(setup, results)


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
