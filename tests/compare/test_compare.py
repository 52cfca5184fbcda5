"""`oba compare`: what it finds, what it says, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from oba.cli import app
from oba.compare.differences import compare_sides
from oba.compare.sides import read_side
from oba.compare.words import summary
from oba.errors import ConfigError, FileError

SAME = "same settings, same data, same code"


def compare(*arguments: str):
    return CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "80"})


def found(a: str, b: str):
    return compare_sides(read_side(a), read_side(b))


def test_nothing_differs_but_names_and_latency(experiments, made):
    experiments(made(), made("two", latency=3.0))
    done = compare("one", "results/two")
    assert done.exit_code == 0
    first, *rest = done.output.splitlines()
    assert first == f"{SAME}; test top-1, MACs and parameters identical, 10 nets in common"
    assert rest[:2] == ["A results/one", "B results/two"]
    assert "B takes 1.50 times A's on" in done.output
    assert json.loads(compare("one", "two", "--json").output)["same"] is True


def test_nets_are_paired_by_seed(experiments, made):
    better = {(0, "taylor", "0.30"): 0.95, (1, "taylor", "0.30"): 0.93}
    experiments(made(), made("two", top1=better))
    done = compare("one", "two")
    assert done.exit_code == 1
    first = done.output.splitlines()[0]
    assert first == f"{SAME}; test top-1 +0.8 ± 0.3 over 2 seeds, 10 nets in common"
    assert "taylor 0.30  90.0  94.0  +4.0 ± 1.4" in done.output
    assert "4 of 5 nets are identical" in done.output
    assert max(map(len, done.output.splitlines()[1:])) <= 80
    values = json.loads(compare("one", "two", "--json").output)
    assert values["summary"] == first
    row = next(net for net in values["results"]["nets"] if net.get("method") == "taylor" and net["keep"] == "0.30")
    assert row["seeds"] == ["0", "1"]
    assert row["test_top1"]["difference"] == {"mean": pytest.approx(0.04), "std": pytest.approx(0.02 / 2**0.5)}


def test_code_is_told_by_stage_and_apart_where_settings_choose_it(experiments, made):
    experiments(made(), made("two", code={"prune": "x", "finetune": "y"}))
    assert summary(found("one", "two")).startswith("same settings, same data, other code (prune, finetune); ")
    chains = [
        f"results/{name}/resnet8/seed0/{method}-iterative" for name, method in (("one", "magnitude"), ("two", "taylor"))
    ]
    codes = {code.stage: code.chosen for code in found(*chains).code}
    assert codes == {"prune": True, "finetune": False}


def test_settings_data_versions_and_machine_are_told(experiments, made):
    changed = made(
        "two", record={"torch": "3.0", "host": "node", "git": {"commit": "bad", "dirty": True}}, digest="e" * 16
    )
    changed.study |= {"finetune": {"epochs": 7}}
    experiments(made(), changed)
    comparison = found("one", "two")
    assert [one.key for one in comparison.settings] == ["finetune.epochs"]
    assert [one.key for one in comparison.data] == ["digest", "splits.seed0.digest", "splits.seed1.digest"]
    assert [(one.key, one.a, one.b) for one in comparison.versions] == [("torch", "2.14.1", "3.0")]
    assert [one.key for one in comparison.machine] == ["host"]
    assert [one.key for one in comparison.commits] == ["commit", "dirty"]
    assert summary(comparison).startswith(
        "1 setting differs, other data, same code, other versions (torch), other host; test top-1"
    )
    output = compare("one", "two").output
    assert all(title in output for title in ("Settings", "Code", "Data", "Versions", "Machine"))


def test_what_one_side_has_alone_is_told(experiments, made):
    experiments(made(), made("two", methods=("taylor",), seeds=(0,)))
    comparison = found("one", "two")
    assert (comparison.results.in_common, len(comparison.results.only_a)) == (3, 7)
    done = compare("one", "two")
    assert done.exit_code == 1
    assert "3 nets in common, 7 only in A" in done.output
    assert "only here" not in done.output
    assert "Only in A: dense, magnitude (4), taylor (2)" in done.output
    assert done.output.startswith(f"{SAME}; ")


def test_chains_levels_and_nets_are_compared_by_what_they_share(experiments, made):
    experiments(made())
    seed = "results/one/resnet8/seed0"
    chains = found(f"{seed}/magnitude-iterative", f"{seed}/taylor-iterative")
    assert [one.key for one in chains.settings] == ["method", "method.criterion"]
    assert chains.results.in_common == 2
    levels = found(f"{seed}/taylor-iterative/keep0.60", f"{seed}/taylor-iterative/keep0.30")
    assert [one.key for one in levels.settings] == ["keep"]
    nets = found(f"{seed}/taylor-iterative/keep0.60/finetuned", f"{seed}/dense")
    assert [(one.key, one.a) for one in nets.settings if one.key == "variant"] == [("variant", "finetuned")]
    assert nets.results.in_common == 1
    pruned = found(f"{seed}/taylor-iterative/keep0.60/pruned", f"{seed}/magnitude-iterative/keep0.60/pruned")
    assert pruned.results.measured == "val_top1"
    other = found(f"{seed}/taylor-iterative", "results/one/resnet8/seed1/taylor-iterative")
    assert [one.key for one in other.settings] == ["seed"]
    assert [(one.key, one.b[-1]) for one in other.data] == [("splits.digest", "1")]


def test_a_study_is_compared_with_another_and_with_an_experiment(experiments, made, tmp_path):
    experiments(made())
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(made().study))
    (tmp_path / "b.yaml").write_text(
        "# the same, but for tracking\n" + yaml.safe_dump(made().study | {"tracking": {"system_metrics": False}})
    )
    assert compare("a.yaml", "one").output.splitlines()[0] == "same settings"
    done = compare("a.yaml", "b.yaml")
    assert (done.exit_code, done.output.splitlines()[0]) == (1, "same settings but for tracking")
    assert "Settings that no result depends on" in done.output


def test_a_study_of_another_version_is_compared_as_it_stands(experiments, made):
    one, two = experiments(made(), made("two"))
    path = Path(two, "study.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"once": {"was": 1}}))
    assert [(d.key, d.b) for d in found(one, two).settings] == [("once", {"was": 1})]


def test_experiments_without_a_net_in_common_say_nothing_of_code(experiments, made):
    other = made("two")
    other.study |= {"models": ["resnet20"]}
    root = Path(experiments(made(), other)[1])
    (root / "resnet8").rename(root / "resnet20")
    for path in root.rglob("*run.json"):
        path.write_text(path.read_text().replace("resnet8", "resnet20"))
    output = " ".join(compare("one", "two").output.split())
    assert output.startswith("2 settings differ, same data; no nets in common, 10 only in A, 10 only in B")
    assert "only here, with 2 settings or sections" in output


def test_kinds_that_do_not_go_together_are_refused(experiments, made):
    experiments(made())
    with pytest.raises(ConfigError, match=r"results/one is an experiment, .*/dense a net; allowed: two of a kind"):
        found("one", "results/one/resnet8/seed0/dense")


@pytest.mark.parametrize("given", ["nothing", "results", "results/one/data", "results/one/resnet8/seed0", "text.txt"])
def test_what_is_nothing_of_the_kind_is_refused(experiments, made, given):
    experiments(made())
    Path("text.txt").touch()
    with pytest.raises(FileError, match=r"allowed: a study file"):
        read_side(given)


def test_a_folder_that_lost_its_net_is_refused(experiments, made):
    experiments(made())
    Path("results/one/resnet8/seed0/dense/plan.json").unlink()
    with pytest.raises(FileError, match=r"holds no stored net"):
        read_side("results/one/resnet8/seed0/dense")
    Path("results/one/study.json").write_text("[]")
    with pytest.raises(FileError, match="not a resolved study"):
        read_side("one")


def test_many_nets_are_cut_to_those_that_differ_most(experiments, made):
    names = [f"m{i}" for i in range(15)]
    methods = [{"name": name, "criterion": "magnitude"} for name in names]
    sides = [made(name, methods=tuple(names), seeds=(0,)) for name in ("one", "two")]
    for side in sides:
        side.study |= {"methods": methods}
    sides[1].top1 = {(0, name, keep): 0.9 + i / 1000 for i, name in enumerate(names, 1) for keep in ("0.60", "0.30")}
    experiments(*sides)
    output = compare("one", "two").output
    assert "the 20 nets that differ most" in output
    assert "… and 10 more: --json has all" in output
    assert "m14 0.60" in output
    assert "m0 0.60" not in output


def test_experiments_are_compared_without_torch(experiments, made):
    experiments(made(), made("two"))
    code = "import sys; from oba.cli import main; sys.argv = ['oba', 'compare', 'one', 'two']\n"
    code += (
        "try:\n main()\nexcept SystemExit as end:\n print(end.code, 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr
