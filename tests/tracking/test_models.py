"""Nets in MLflow's Models: one each, with its measures and files, whatever was killed when."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.replay import load_pruned
from oba.tracking import NetFiles, stage_run, sync
from oba.tracking.connection import Connection
from oba.tracking.forward import Forwarder
from oba.tracking.store import Store

DEAD = "http://127.0.0.1:1"
LOAD = """
import sys
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
net = mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}")
assert net.metadata.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
images = numpy.load(sys.argv[3])
numpy.save(sys.argv[4], net.predict(images))
assert not net.get_raw_model().training
"""
CARD = ModelCard("resnet8", 4, (1, 8, 8), ("a", "b", "c", "d"), (0.5,), (0.25,))


@pytest.fixture
def net(lab):
    """A stored net of random weights."""
    torch.manual_seed(0)
    folder = lab.folder / "net"
    folder.mkdir()
    save_pruned(folder, build_model(CARD.name, num_classes=4, input_size=(1, 8, 8)), CARD)
    return folder


@pytest.fixture
def evaluated(lab, net):
    """Report a net's evaluation to a server that is dead, or to one that is there."""

    def evaluated(key="stage", *, uploaded=("model.safetensors", "plan.json"), uri=DEAD, top1=0.5, attempt="1"):
        identity = lab.identity(key)
        identity = type(identity)(identity.experiment, identity.key, identity.name, attempt=attempt)
        with stage_run(lab.journal(key), identity, uri=uri, results_dir=lab.results) as run:
            run.dataset("digits", digest="0123456789abcdef", source="/data", profile={"images": 8}, context="test")
            run.metrics({"test_top1": top1, "macs": 1000})
            files = NetFiles(net, uploaded, "oba.export.pyfunc", (1, 8, 8), 4)
            run.model("oba-joint 40.5%", files, {"seed": 0, "method": {"name": "oba"}})
        return lab.journal(key)

    return evaluated


@pytest.fixture
def models(lab):
    """Return the logged models of the experiment."""
    return lambda: lab.client.search_logged_models([lab.client.get_experiment_by_name(lab.experiment).experiment_id])


def test_net_is_listed_with_its_measures_data_and_files_and_loads(lab, net, evaluated, models, tmp_path):
    assert sync([evaluated()], lab.uri, lab.results).artifacts == 2
    (model,) = models()
    assert (model.name, model.status, model.source_run_id) == ("oba-joint 40_5_", "READY", lab.run().info.run_id)
    assert model.params == {"seed": "0", "method.name": "oba"}
    assert model.tags["files"] == str(net)
    assert f'load_model("models:/{model.model_id}")' in model.tags["mlflow.note.content"]
    measures = {(m.key, m.value, m.dataset_name, m.dataset_digest, m.run_id) for m in model.metrics}
    data = ("digits", "0123456789ab", model.source_run_id)
    assert measures == {("test_top1", 0.5, *data), ("macs", 1000.0, *data)}
    assert [output.model_id for output in lab.run().outputs.model_outputs] == [model.model_id]
    images = torch.rand(3, 1, 8, 8)
    np.save(tmp_path / "images.npy", images.numpy())
    done = load(lab.uri, model.model_id, tmp_path / "images.npy", tmp_path / "logits.npy")
    assert done.returncode == 0, done.stderr
    expected = load_pruned(net)((images - 0.5) / 0.25).detach()
    found = torch.as_tensor(np.load(tmp_path / "logits.npy"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def load(*words):
    """Load a net as a user does: in a process of its own."""
    command = [sys.executable, "-c", LOAD, *map(str, words)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHON"))}
    return subprocess.run(command, env=clean, capture_output=True, text=True)


def test_large_net_is_listed_and_says_where_its_files_are(lab, net, evaluated, models):
    sync([evaluated(uploaded=())], lab.uri, lab.results)
    (model,) = models()
    assert (model.status, model.tags["files"], len(model.metrics)) == ("READY", str(net), 2)
    assert "mlflow" not in model.tags["mlflow.note.content"]
    assert [f.path for f in lab.client.list_logged_model_artifacts(model.model_id)] == ["MLmodel"]
    assert "This model's artifacts are external" in load(lab.uri, model.model_id, "images.npy", "logits.npy").stderr


def state(lab, models):
    """Return all that the store says of the stage's net and data."""
    run = lab.run()
    assert len(run.inputs.dataset_inputs) == 1
    return [
        (
            model.name,
            str(model.status),
            model.source_run_id == run.info.run_id,
            [o.model_id for o in run.outputs.model_outputs] == [model.model_id],
            sorted((m.key, m.step, m.value, m.timestamp) for m in model.metrics),
            {f.path for f in lab.client.list_logged_model_artifacts(model.model_id)},
        )
        for model in models()
    ], lab.history(run)


@pytest.mark.parametrize("late", [True, False], ids=["call is made", "call is not made"])
def test_killed_at_any_call_leaves_one_net_in_the_end(lab, evaluated, models, monkeypatch, late):
    call, calls, last = Connection.call, [], 0

    def cut(self, method, *args, **kwargs):
        calls.append(method)
        if len(calls) == last:
            if late:
                call(self, method, *args, **kwargs)
            raise KeyboardInterrupt
        return call(self, method, *args, **kwargs)

    monkeypatch.setattr(Connection, "call", cut)
    sync([evaluated()], lab.uri, lab.results)
    expected, number = state(lab, models), len(calls)
    assert number > 10
    (only,), points = expected
    assert only[2:4] == (True, True)
    for last in range(1, number + 1):
        fresh = type(lab)(lab.results, lab.uri, f"{lab.experiment}-{last}")
        journal = fresh.journal()
        journal.parent.mkdir(parents=True)
        text = (
            lab
            .journal()
            .read_text()
            .replace(f'"experiment": "{lab.experiment}"', f'"experiment": "{fresh.experiment}"')
        )
        lines = [json.loads(line) for line in text.splitlines()]
        journal.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "crc"}) + "\n" for line in lines))
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            sync([journal], fresh.uri, fresh.results)
        number_now, calls[:] = len(calls), ["done"] * 1000
        assert number_now == last
        sync([journal], fresh.uri, fresh.results)
        number_of = fresh.client.get_experiment_by_name(fresh.experiment).experiment_id
        found = state(fresh, partial(fresh.client.search_logged_models, [number_of]))
        assert found == (expected[0], points), (last, text)
        assert sync([journal], fresh.uri, fresh.results).updated == 0


def test_stage_leaves_its_net_to_sync(lab, evaluated, models):
    """What takes long is not done while a job waits."""
    journal = evaluated(uri=lab.uri)
    assert models() == []
    assert lab.run().data.metrics == {"test_top1": 0.5, "macs": 1000.0}
    before = lab.history(lab.run())
    sync([journal], lab.uri, lab.results)
    (model,) = models()
    assert {(m.key, m.value) for m in model.metrics} == {("test_top1", 0.5), ("macs", 1000.0)}
    assert lab.history(lab.run()) == before
    assert sync([journal], lab.uri, lab.results).updated == 0


def test_unfinished_stage_has_no_net(lab, evaluated, models, net):
    journal = evaluated()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    Forwarder(journal, Store(Connection(lab.uri, lab.results)), None).forward()
    sync([journal], lab.uri, lab.results)  # ends it as KILLED
    assert models() == []
    sync([evaluated()], lab.uri, lab.results)
    assert len(models()) == 1


def test_net_of_another_attempt_replaces_the_old_one(lab, evaluated, models):
    for attempt, top1 in (("1", 0.5), ("2", 0.75)):
        sync([evaluated(attempt=attempt, top1=top1)], lab.uri, lab.results)
    old, new = sorted(models(), key=lambda model: model.creation_timestamp)
    assert (old.tags["superseded_by"], "superseded_by" in new.tags) == (new.source_run_id, False)


def test_deleted_net_stays_deleted(lab, evaluated, models):
    journal = evaluated()
    sync([journal], lab.uri, lab.results)
    lab.client.delete_logged_model(models()[0].model_id)
    (journal.parent / f"{journal.name}.sent").unlink()
    sync([journal], lab.uri, lab.results)
    assert models() == []


def test_files_that_are_gone_follow_when_they_are_back(lab, net, evaluated, models):
    journal = evaluated()
    shutil.move(net, net.with_name("away"))
    assert sync([journal], lab.uri, lab.results).missing == 1
    assert [str(model.status) for model in models()] == ["PENDING"]
    shutil.move(net.with_name("away"), net)
    assert sync([journal], lab.uri, lab.results).artifacts == 2
    assert [str(model.status) for model in models()] == ["READY"]


def test_password_in_a_source_or_parameter_is_not_kept(lab, evaluated, net):
    with stage_run(lab.journal(), lab.identity(), uri=DEAD, results_dir=lab.results) as run:
        secret = "https://me:s3cret@host/data"
        run.dataset("d", digest="1", source=secret, profile={}, context="train")
        run.params({"root": secret})
        run.tags({"root": secret})
        run.model("m", NetFiles(net, (), "oba.export.pyfunc", (1,), 1), {"root": secret})
    assert b"s3cret" not in lab.journal().read_bytes()
