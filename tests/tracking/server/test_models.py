"""A net on a real server: listed, loaded over the network, and one even where the server answers late."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.tracking import NetFiles, stage_run, sync

pytestmark = pytest.mark.slow
CARD = ModelCard("resnet8", 4, (1, 8, 8), ("a", "b", "c", "d"), (0.5,), (0.25,))
LOAD = """
import sys
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
logits = mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}").predict(numpy.zeros((2, 1, 8, 8), numpy.float32))
assert logits.shape == (2, 4), logits.shape
"""


@pytest.fixture
def journal(site):
    """Evaluate a net while the server is away."""
    folder = site.folder / "net"
    folder.mkdir()
    save_pruned(folder, build_model(CARD.name, num_classes=4, input_size=(1, 8, 8)), CARD)
    options = {"uri": "http://127.0.0.1:1", "results_dir": site.results, "min_seconds": float("inf")}
    with stage_run(site.journal(), site.identity(), **options) as run:
        run.dataset("digits", digest="0123456789abcdef", source="/data", profile={"images": 8}, context="test")
        run.metrics({"test_top1": 0.5, "macs": 1000})
        run.model("net", NetFiles(folder, ("model.safetensors", "plan.json"), "oba.export.pyfunc", (1, 8, 8), 4), {})
    return site.journal()


def models(site):
    number = site.client.get_experiment_by_name(site.experiment).experiment_id
    return site.client.search_logged_models([number])


def active(site):
    """Return the stage's only run that was not deleted: of runs, too, two are created by a late answer."""
    (run,) = [run for run in site.runs() if run.info.lifecycle_stage == "active"]
    return run


def check(site):
    (model,) = models(site)
    (output,) = active(site).outputs.model_outputs
    assert (output.model_id, str(model.status)) == (model.model_id, "READY")
    assert {(m.key, m.value, m.dataset_name) for m in model.metrics} == {
        ("test_top1", 0.5, "digits"),
        ("macs", 1000.0, "digits"),
    }
    assert [point[:2] for point in site.history(active(site))] == [("macs", 0), ("test_top1", 0)]
    (read,) = active(site).inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest) == ("digits", "0123456789ab")
    return model


def test_net_is_listed_once_and_loads_over_the_network(server, site, journal):
    for _ in range(2):
        sync([journal], site.uri, site.results)
        (journal.parent / f"{journal.name}.sent").unlink()
    model = check(site)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHON"))}
    command = [sys.executable, "-c", LOAD, server.uri, model.model_id]
    done = subprocess.run(command, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_second_model_of_one_call_is_deleted(late, site, journal, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for _ in range(2):
        sync([journal], late.uri, site.results)
        (journal.parent / f"{journal.name}.sent").unlink()
    assert len([body for body in late.created if b'"source_run_id"' in body]) == 1
    check(site)
