"""What MLflow shows of a finished study, and that a dead server changes nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from oba.tracking.cursor import read_cursor

DEAD = "http://127.0.0.1:9"
LEVELS = [f"tiny/resnet8/seed0/taylor-iterative/keep{keep}" for keep in ("0.70", "0.40")]
CHAIN = "tiny/resnet8/seed0/taylor-iterative"


def test_one_run_per_stage_and_a_parent_per_chain(store):
    stages = {"tiny/data/run", "tiny/data/split-seed0-run", "tiny/resnet8/structures-run"}
    stages |= {"tiny/resnet8/seed0/dense/run", "tiny/resnet8/seed0/dense/evaluation-run"}
    for level in LEVELS:
        stages |= {f"{level}/pruned/run", f"{level}/finetuned/run", f"{level}/finetuned/evaluation-run"}
    tags = store.tags()
    assert set(tags) == stages | {CHAIN, "tiny/report"}
    for level in LEVELS:
        for stage in ("pruned/run", "finetuned/run", "finetuned/evaluation-run"):
            assert tags[f"{level}/{stage}"]["mlflow.parentRunId"] == tags[CHAIN]["run"]
    names = dict(store.rows("select run_uuid, name from runs"))
    assert names[tags[f"{LEVELS[0]}/finetuned/run"]["run"]] == "taylor keep0.70 finetune seed0 resnet8"
    states = dict(store.rows("select run_uuid, status from runs"))
    assert {states[tags[key]["run"]] for key in stages} == {"FINISHED"}


def test_tags_say_where_a_result_comes_from(store, finished):
    tags = store.tags()[f"{LEVELS[0]}/pruned/run"]
    wanted = {"sweep": "tiny", "model": "resnet8", "method": "taylor", "keep": "0.70", "seed": "0", "stage": "prune"}
    wanted |= {"criterion": "taylor", "allocation": "global", "update": "norm", "granularity": "structures"}
    assert wanted.items() <= tags.items()
    data = json.loads((finished.root / "results/tiny/data/data.json").read_text())
    record = json.loads((finished.root / "results" / f"{LEVELS[0]}/pruned/run.json").read_text())
    assert tags["data_digest"] == data["digest"]
    assert tags["code_digest"] == record["code"]
    assert {"git_commit", "git_dirty", "config_digest"} <= set(tags)


def test_parameters_and_metric_histories(store, finished):
    run = store.tags()["tiny/resnet8/seed0/dense/run"]["run"]
    params = store.params(run)
    assert (params["dense.epochs"], params["dense.batch_size"], params["threads"]) == ("2", "256", "1")
    with (finished.root / "results/tiny/resnet8/seed0/dense/history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for metric in ("train_loss", "val_top1", "lr"):
        assert store.history(run, metric) == [(int(row["epoch"]), float(row[metric])) for row in rows]


def test_a_chains_chart_draws_accuracy_against_what_went(store, finished):
    chain = store.tags()[CHAIN]["run"]
    folders = {0: "dense", 30: "taylor-iterative/keep0.70/finetuned", 60: "taylor-iterative/keep0.40/finetuned"}
    expected = []
    for step, folder in sorted(folders.items()):
        path = finished.root / "results/tiny/resnet8/seed0" / folder / "evaluation.json"
        expected.append((step, json.loads(path.read_text())["test"]["top1"]))
    assert store.history(chain, "test_top1") == expected


def test_artifacts_lie_under_results_and_nothing_outside(store, finished):
    [(location,)] = store.rows("select artifact_location from experiments where name = 'tiny'")
    assert Path(location.removeprefix("file://")).is_relative_to(finished.root / "results")
    [(uri,)] = store.rows(
        "select artifact_uri from runs where run_uuid = ?", store.tags()[f"{LEVELS[0]}/pruned/run"]["run"]
    )
    folder = Path(uri.removeprefix("file://"))
    assert {p.name for p in folder.iterdir()} == {"plan.json", "metrics.json", "run.json"}
    assert not [p.name for p in finished.root.iterdir() if p.name.startswith("mlruns") or p.suffix == ".db"]


def test_a_malformed_address_is_one_line_before_any_job(project):
    done = project.snakemake("--dry-run", check=False, MLFLOW_TRACKING_URI="http://me:s3cret#1@host:5000")
    assert done.returncode != 0
    assert "\nMLFLOW_TRACKING_URI: the http address is malformed" in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_chains_are_compared_by_parameters_and_sorted_as_the_study_lists_them(store):
    chain = store.tags()[CHAIN]
    params = store.params(chain["run"])
    wanted = {"criterion": "taylor", "allocation": "global", "update": "norm", "rounds": "2", "seed": "0"}
    wanted |= {"model": "resnet8", "finetune.epochs": "1", "dense.epochs": "2", "calibration.images": "64"}
    assert wanted.items() <= params.items()
    assert (chain["order"], "criterion.norm" in params, "None" in params.values()) == ("000", True, True)
    assert "results/tiny/resnet8/seed0/taylor-iterative" in chain["mlflow.note.content"]


def test_stages_that_read_images_say_which(store):
    read = "select t2.value, t.value, d.digest from inputs i join input_tags t using (input_uuid) "
    read += "join datasets d on d.dataset_uuid = i.source_id join tags t2 on t2.run_uuid = i.destination_id "
    found = {row[:2] for row in store.rows(f"{read} where t2.key = 'stage'")}
    assert found == {
        ("prepare", "prepare"),
        ("split", "split"),
        ("dense", "train"),
        ("prune", "calibration"),
        ("finetune", "train"),
        ("evaluate", "test"),
    }


def test_every_evaluated_net_is_a_model_with_its_measures(store, finished):
    models = store.rows("select model_id, name from logged_models order by name")
    names = ["dense seed0 resnet8", "taylor keep40 seed0 resnet8", "taylor keep70 seed0 resnet8"]
    assert [name for _, name in models] == names
    measured = json.loads((finished.root / "results" / LEVELS[1] / "finetuned" / "evaluation.json").read_text())
    measures = dict(
        store.rows("select metric_name, metric_value from logged_model_metrics where model_id = ?", models[1][0])
    )
    assert (measures["test_top1"], measures["macs"]) == (measured["test"]["top1"], measured["cost"]["macs"])
    assert "latency_ms" in measures
    loaded = {path.name for path in (finished.root / "results/mlartifacts/tiny/models").glob("*/artifacts/*")}
    assert loaded == {"MLmodel", "model.safetensors", "plan.json"}


def test_the_report_is_one_run(store, finished):
    report = store.tags()["tiny/report"]
    [(uri,)] = store.rows("select artifact_uri from runs where run_uuid = ?", report["run"])
    kept = {path.name for path in Path(uri.removeprefix("file://")).iterdir()}
    made = {path.name for path in (finished.root / "results/tiny/report").iterdir() if path.suffix != ".json"}
    assert {"summary.md", "tradeoff.png"} <= kept <= made


def test_a_report_that_is_made_again_stays_one_run(copied):
    journal = copied.root / "results/tiny/journal/report/run.jsonl"
    before, size = copied.store.tags()["tiny/report"]["run"], journal.stat().st_size
    (copied.root / "results/tiny/report/summary.md").unlink()
    for command in ("report", "end"):
        copied.oba(command, "--study", "results/tiny/study.json")
    assert journal.stat().st_size > size
    assert read_cursor(journal).offset == journal.stat().st_size
    rows = copied.store.rows("select run_uuid, status from runs where name = 'report'")
    assert rows == [(before, "FINISHED")]


@pytest.mark.slow
def test_a_dead_server_changes_nothing_and_sync_sends_later(copied, finished):
    for name in ("results/mlflow.db", "results/mlartifacts", f"results/{CHAIN}", "results/tiny/report"):
        path = copied.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = copied.snakemake(MLFLOW_TRACKING_URI=DEAD)
    name = f"results/{LEVELS[1]}/finetuned/model.safetensors"
    assert (copied.root / name).read_bytes() == (finished.root / name).read_bytes()
    assert not (copied.root / "results/mlflow.db").exists()
    assert "`oba sync` sends this study later" in done.stderr
    refused = copied.oba("sync", "--uri", DEAD, check=False)
    assert refused.returncode == 10
    assert refused.stderr.startswith("error: ")
    copied.oba("sync")
    assert set(copied.store.tags()) == set(finished.store.tags())
    assert len(copied.store.rows("select * from logged_models")) == 3
    before = copied.store.rows("select count(*) from metrics")
    copied.oba("sync")
    assert copied.store.rows("select count(*) from metrics") == before
