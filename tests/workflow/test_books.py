"""The comparison that the kill storm rests on finds what it is there for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from books import unlike

NET = "resnet8/seed0/taylor-iterative/keep0.40/finetuned"
KEY = f"tiny/{NET}/run"
RUN = "(select run_uuid from tags where key = 'stage_key' and value = '" + KEY + "')"

EVALUATED = RUN.replace("/run'", "/evaluation-run'")


@pytest.fixture
def spoilt(finished, copied):
    """Return a function: what the books say of a copy after some SQL on its store."""

    def say(*statements: str) -> list[str]:
        with closing(sqlite3.connect(copied.root / "results/mlflow.db")) as store:
            for statement in statements:
                assert store.execute(statement).rowcount > 0
            store.commit()
        return unlike(finished.root, copied.root, "tiny")

    return say


def test_equal_books_are_equal(spoilt):
    assert spoilt() == []


def test_a_flipped_bit_and_a_changed_metric_are_found_and_times_are_not(spoilt, copied):
    folder = copied.root / "results/tiny" / NET
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["val"]["top1"] += 1e-9
    metrics["seconds"] += 1
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "history.csv").unlink()
    assert [line.split(":")[0] for line in spoilt()] == [
        f"{NET}/history.csv",
        f"{NET}/metrics.json/val/top1",
        f"{NET}/model.safetensors/tensors",
    ]


def test_what_a_page_says_of_times_may_differ_and_nothing_else(spoilt, copied):
    path = copied.root / "results/tiny/report/index.html"
    before, start, rest = path.read_text().partition('id="data">')
    text, end, after = rest.partition("</script>")
    values = json.loads(text)
    values["stages"][0]["sum_seconds"] += 1
    values["runs"]["latency_ms"][0] += 1
    values["speedup_alerts"] = ["fewer MACs but no speedup"]
    values["origin"]["time"] = {"first": "long ago", "last": "now"}
    path.write_text(before + start + json.dumps(values) + end + after)
    assert spoilt() == []
    values["runs"]["test_top1"][0] += 1e-9
    path.write_text(before + start + json.dumps(values) + end + after.replace("start();", "stop();"))
    assert [line.split(":")[0] for line in spoilt()] == [
        "report/index.html/page",
        "report/index.html/values/runs/test_top1[0]",
    ]


def test_snakemakes_own_report_has_the_page_first_and_names_in_words(copied):
    copied.snakemake("--report", "out.html")
    text = (copied.root / "out.html").read_text()
    for label in ("the whole sweep, interactive", "means over seeds", "accuracy against what is kept"):
        assert label in text
    assert "Start with <strong>Page</strong>" in text or "Start with **Page**" in text


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (f"update runs set status = 'RUNNING' where run_uuid in {RUN}", "is RUNNING"),
        (f"delete from metrics where key = 'val_loss' and run_uuid in {RUN}", f"{KEY}[0]/points"),
        (
            "insert into metrics select key, value + 1, timestamp, run_uuid, step, is_nan from metrics "
            f"where key = 'val_loss' and run_uuid in {RUN}",
            "2 points val_loss at step 1",
        ),
        (
            f"update params set value = '7' where key = 'finetune.epochs' and run_uuid in {RUN}",
            "finetune.epochs: 7, not 1",
        ),
        (f"delete from inputs where source_type = 'DATASET' and destination_id in {RUN}", f"{KEY}[0]/data"),
        (f"update logged_models set lifecycle_stage = 'deleted' where source_run_id in {EVALUATED}", "0 models"),
        (f"update logged_models set status = 1 where source_run_id in {EVALUATED}", "models[0]/status"),
        (f"delete from inputs where destination_type = 'MODEL_OUTPUT' and source_id in {EVALUATED}", "models[0]/links"),
        (f"delete from logged_model_metrics where metric_name = 'macs' and run_id in {EVALUATED}", "models[0]/points"),
        (f"delete from tags where key = 'mlflow.parentRunId' and run_uuid in {RUN}", f"{KEY}[0]/parent"),
        (
            f"insert into tags select 'superseded_by', 'x', run_uuid from runs where run_uuid in {RUN}",
            f"{KEY}: missing",
        ),
    ],
)
def test_a_store_that_does_not_balance_is_found(spoilt, statement, found):
    assert any(found in line for line in spoilt(statement))
