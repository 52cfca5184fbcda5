from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from oba.report.page import classes, layers, payload, trainings
from oba.report.page.budget import Budget, seeds_first, thinned
from oba.report.page.columns import as_columns, rounded
from oba.report.page.facts import Facts, JobFiles, StageJobs
from oba.report.page.payload import as_script
from oba.report.page.render import assets_digest, render


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(
    ("value", "short"),
    [(97.55011, 97.5501), (0.123456789, 0.123457), (3.0, 3), (float("nan"), None), (None, None), (float("inf"), None)],
)
def test_numbers_are_rounded(value, short):
    assert rounded(value) == short


def test_columns_keep_texts_once_and_blanks_as_blanks():
    frame = pd.DataFrame({"a": ["x", "y", "x"], "n": [1.5, None, 2], "none": [None, None, None]})
    assert as_columns(frame) == {
        "a": {"names": ["x", "y"], "codes": [0, 1, 0]},
        "n": [1.5, None, 2],
        "none": [None, None, None],
    }


def test_nothing_in_the_values_can_end_their_element():
    values = {"</script>": "<!-- ]]> & \u2028 \"' </SCRIPT >"}
    text = as_script(values)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == values


def test_the_same_files_give_the_same_bytes(values):
    first, again = render(values(controls=("scratch",))), render(values(controls=("scratch",)))
    assert first == again
    assert "</script" not in first.partition('id="data">')[2].partition("</script>")[0]


def test_names_that_look_like_places_of_the_template_stay(values):
    page = render(values(title="$data ${styles} $$"))
    assert page.count("<h1>$data ${styles} $$</h1>") == 1


def test_the_first_seed_of_every_net_comes_first(make_sweep):
    nets = make_sweep(methods=("taylor",), keep=(0.5,), seeds=(3, 4)).write()
    assert [(place, net.seed, net.method) for place, net in seeds_first(nets)] == [
        (0, 3, "dense"),
        (1, 3, "taylor"),
        (2, 4, "dense"),
        (3, 4, "taylor"),
    ]


def test_a_budget_counts_what_it_leaves_out():
    budget = Budget(10)
    assert [budget.takes(n) for n in (6, 6, 4, 1)] == [True, False, True, False]
    assert budget.left_out == 2


def test_thinned_values_keep_both_ends():
    assert thinned(range(10), 4) == [0, 3, 6, 9]
    assert thinned([1, 2], 4) == [1, 2]


def test_what_does_not_fit_is_left_out_seed_by_seed_and_counted(values, with_classes, monkeypatch):
    with_classes(monkeypatch, 10)
    monkeypatch.setattr(trainings, "NUMBERS", 3 * (36 + 9 * 12))
    monkeypatch.setattr(layers, "NUMBERS", 9 * 7)
    monkeypatch.setattr(classes, "NUMBERS", 26 * 10)
    shown = values(epochs=12)
    seeds = shown["runs"]["seed"]
    assert {seeds[curve["net"]] for curve in shown["trainings"]["curves"]} == {0}
    assert {seeds[entry["net"]] for entry in shown["layers"]["blocks"][0]["nets"]} == {0}
    assert {seeds[entry["net"]] for entry in shown["classes"]["nets"]} == {0}
    assert [shown[part]["left_out"] for part in ("trainings", "layers", "classes")] == [10, 9, 10]


def test_rows_of_missing_nets_do_not_shift_what_others_show(values):
    shown = values(lambda net: "no" if net.method == "oba-joint" else "", seeds=(0,))
    rows = [(shown["runs"]["method"]["codes"][e["net"]], e["kept"]) for e in shown["layers"]["blocks"][0]["nets"]]
    assert [shown["runs"]["method"]["names"][code] for code, _ in rows] == ["taylor"] * 3 + ["magnitude"] * 3
    assert all(shown["runs"]["missing"]["codes"][c["net"]] == 0 for c in shown["trainings"]["curves"])


def test_long_trainings_are_thinned_and_the_page_says_so(values):
    shown = values(seeds=(0,), methods=("taylor",), keep=(0.5,), epochs=60)
    dense, tuned = shown["trainings"]["curves"]
    assert (len(dense["epoch"]), dense["epoch"][-1], len(tuned["epoch"])) == (trainings.POINTS, 180, 60)
    assert shown["trainings"]["thinned"]


def test_evaluations_that_count_no_classes_have_none(values):
    assert values()["classes"]["nets"] == []


def test_classes_without_a_name_have_a_number(values, with_classes, monkeypatch):
    with_classes(monkeypatch, 3)
    shown = values(facts=Facts(data={"classes": ["cat"]}))["classes"]
    assert shown["names"] == ["cat", "1", "2"]
    assert shown["nets"][0] == {
        "net": 0,
        "images": [20] * 3,
        "correct": [15, 20, 18],
        "confusions": [[0, 1, 5], [2, 0, 2]],
        "cut": False,
    }


def test_costs_are_those_of_the_records(values, tmp_path):
    jobs = [JobFiles(tmp_path / f"{i}/run.json", tmp_path / f"{i}.tsv", method) for i, method in enumerate("aab")]
    for job, seconds in zip(jobs[:2], (2, 5), strict=True):
        put(job.record, {"seconds": seconds, "device": "cpu", "host": "one", "time": f"2026-11-2{seconds}"})
        put(job.benchmark, f"s\tmax_rss\n{seconds}\t{seconds * 100}\n")
    put(tmp_path / "1.tsv", "s\tmax_rss\n1\t-\n")
    shown = values(facts=Facts(stages=[StageJobs("prune", jobs, ["dense"])]))
    assert shown["stages"] == [
        {
            "name": "prune",
            "after": ["dense"],
            "jobs": 3,
            "finished": 2,
            "devices": ["cpu"],
            "median_seconds": 3.5,
            "longest_seconds": 5,
            "sum_seconds": 7,
            "seconds_by_method": {"a": 7},
            "memory_mb": 200,
        }
    ]
    assert shown["origin"]["time"] == {"first": "2026-11-22", "last": "2026-11-25"}
    assert shown["origin"]["facts"]["Machine"] == [{"text": "one", "jobs": 2}]


def test_commits_are_counted_and_changes_told(values, tmp_path):
    jobs = [JobFiles(tmp_path / f"{i}.json") for i in range(3)]
    for job, git in zip(jobs, ({"commit": "a", "dirty": True}, {"commit": "b", "dirty": False}, None), strict=True):
        put(job.record, {"git": git})
    shown = values(facts=Facts(stages=[StageJobs("prune", jobs)]))["origin"]
    assert shown["commits"] == [{"text": "a, with uncommitted changes", "jobs": 1}, {"text": "b", "jobs": 1}]


def test_passwords_are_not_shown(values):
    settings = {"tracking": {"uri": "https://me:s3cret@tracking:5000"}, "list": ["postgresql://u:s3cret@h/db"]}
    page = render(values(facts=Facts(settings=settings)))
    assert "s3cret" not in page
    assert "https://tracking:5000" in page


def test_what_differs_from_run_to_run_stands_under_names_that_say_so(values, monkeypatch):
    first = values(faster=True)
    again = values(faster=False)
    assert again["speedup_alerts"] != first["speedup_alerts"]
    for name in ("headlines", "alerts", "notes"):
        assert first[name] == again[name]


def test_more_rows_than_a_page_can_hold_are_left_to_the_file(values, monkeypatch):
    monkeypatch.setattr(payload, "ROWS", 5)
    shown = values()
    assert (shown["nets"], len(shown["runs"]["seed"])) == (20, 5)


def test_the_digest_sees_every_asset_and_plotlys_version(monkeypatch):
    found = assets_digest()
    assert len(found) == 16
    for changed in ({"version": lambda name: "0"}, {"_ASSETS": Path(__file__).parent}):
        for name, value in changed.items():
            with monkeypatch.context() as patch:
                patch.setattr(f"oba.report.page.render.{name}", value)
                assets_digest.cache_clear()
                assert assets_digest() != found
    assets_digest.cache_clear()
