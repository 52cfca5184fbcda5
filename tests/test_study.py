"""What a study may leave out is filled in, and a resolved study reads back the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from oba.config import PRESETS, Choice, Floors
from oba.errors import ConfigError, FileError
from oba.study import dump_study, load_resolved, load_study, parse_study, retyped

ROOT = Path(__file__).parents[1]


def test_scientific_notation_is_a_number(study_values, changed):
    study = parse_study(changed(study_values, "finetune.lr", yaml.safe_load("1e-3")), "study")
    assert study.finetune.lr == 1e-3


def test_overrides_are_read_as_yaml():
    given = {"seeds": ["0", "1"], "finetune": {"lr": "0.1", "nesterov": "true"}, "models": ["resnet8"], "keep": 0.5}
    assert retyped(given) == {
        "seeds": [0, 1],
        "finetune": {"lr": 0.1, "nesterov": True},
        "models": ["resnet8"],
        "keep": 0.5,
    }


def test_overrides_may_name_methods_and_their_options():
    given = {"methods": ["oba", {"criterion": {"name": "oba-exact", "order": "3"}, "rounds": "1"}]}
    assert retyped(given) == {"methods": ["oba", {"criterion": {"name": "oba-exact", "order": 3}, "rounds": 1}]}
    assert retyped({"methods": "[oba, taylor]"}) == {"methods": ["oba", "taylor"]}


def test_preset_fills_in_and_the_file_wins(study_values, changed):
    values = changed(study_values, "preset", "oba-cifar") | {"methods": ["oba", "magnitude"]}
    del values["dense"]
    study = parse_study(changed(values, "finetune.epochs", 130), "study")
    assert (study.dense.epochs, study.dense.milestones, study.dense.lr) == (200, [60, 100, 150], 0.1)
    assert study.models[0].dense == study.dense
    assert (study.finetune.epochs, study.finetune.milestones, study.finetune.lr) == (130, [80, 120], 1e-3)
    oba, magnitude = study.methods
    assert oba.criterion.options["norm"] == "train"
    assert "norm" not in magnitude.criterion.options
    assert oba.allocation.name == "global"
    calibration = study.calibration
    assert calibration.images == 200 * calibration.batch_size == PRESETS["oba-cifar"]["calibration"]["images"]
    values |= {"finetune": {"epochs": 130}, "method_defaults": {"criterion": {"norm": "eval"}}}
    own = parse_study(values, "study")
    assert own.methods[0].criterion.options["norm"] == "eval"


def test_a_preset_may_have_options_that_no_criterion_of_the_study_has(study_values, changed):
    values = {key: value for key, value in study_values.items() if key not in {"dense", "finetune"}}
    values["preset"] = "oba-cifar"
    assert parse_study(values, "study").methods[0].criterion.name == "magnitude"
    with pytest.raises(ConfigError, match="no criterion of this study has an option 'order'"):
        parse_study(changed(values, "method_defaults", {"criterion": {"order": 1}}), "study")


def test_a_bare_name_is_a_method_with_all_options_spelled_out(study_values):
    (method,) = parse_study(study_values, "study").methods
    assert method.name == method.criterion.name == "magnitude"
    assert method.criterion.options == {"normalizer": "max", "over_layers": "mean", "magnitude": "l1"}
    assert (method.allocation, method.update) == (Choice(name="global", scope="net"), Choice(name="norm"))
    assert (method.rounds, method.floors, method.keep_scores) == (4, Floors(), False)


def test_methods_take_from_the_defaults_what_they_do_not_say(study_values):
    defaults = {
        "criterion": {"norm": "train", "over_layers": "sum"},
        "allocation": "per-mac",
        "update": "none",
        "rounds": 2,
        "floors": {"max_removed": 0.8, "round_to": 2},
        "keep_scores": True,
    }
    methods = [
        "oba",
        {"name": "own", "criterion": {"name": "oba", "norm": "eval"}, "allocation": "uniform", "rounds": 9},
        {"criterion": "magnitude", "floors": {"round_to": 8}, "update": {"name": "norm"}, "keep_scores": False},
    ]
    study = parse_study(study_values | {"methods": methods, "method_defaults": defaults}, "study")
    oba, own, magnitude = study.methods
    assert [m.name for m in study.methods] == ["oba", "own", "magnitude"]
    assert [m.criterion.options.get("norm") for m in study.methods] == ["train", "eval", None]
    assert [m.criterion.options["over_layers"] for m in study.methods] == ["sum"] * 3
    assert [m.allocation.name for m in study.methods] == ["per-mac", "uniform", "per-mac"]
    assert [m.update.name for m in study.methods] == ["none", "none", "norm"]
    assert [m.rounds for m in study.methods] == [2, 9, 2]
    assert oba.floors == own.floors == Floors(max_removed=0.8, round_to=2)
    assert magnitude.floors == Floors(max_removed=0.8, round_to=8)
    assert [m.keep_scores for m in study.methods] == [True, True, False]


def test_methods_of_both_granularities_take_from_the_defaults_what_is_theirs(study_values):
    defaults = {
        "criterion": {"norm": "train", "over_layers": "sum", "add_magnitude": True},
        "floors": {"round_to": 2},
        "descent": "cubic",
    }
    single = {"name": "single", "criterion": "oba", "granularity": "weights", "descent": "exponential"}
    values = study_values | {"methods": ["oba", single], "method_defaults": defaults}
    structures, weights = parse_study(values, "study").methods
    own = {"norm": "train", "over_batches": "abs-of-mean"}
    assert structures.criterion.options == own | {"normalizer": "max", "over_layers": "sum"}
    assert weights.criterion.options == own | {"add_magnitude": True}
    assert (structures.granularity, weights.granularity) == ("structures", "weights")
    assert (structures.floors, weights.floors) == (Floors(round_to=2), None)
    assert (structures.descent, weights.descent) == ("cubic", "exponential")
    assert weights.allocation.options == {"floor": 0.0}
    assert parse_study(dump_study(parse_study(values, "study")), "study") == parse_study(values, "study")
    values |= {"method_defaults": {"granularity": "weights", "floors": {"round_to": 2}}}
    both = parse_study(values, "study").methods
    assert [(m.granularity, m.floors) for m in both] == [("weights", None)] * 2


def test_models_take_from_the_study_what_they_do_not_say(study_values):
    values = study_values | {
        "models": ["resnet8", {"name": "resnet20", "dense": {"lr": 0.3}, "structures": {"ignore": ["conv1"]}}],
        "structures": {"residual_streams": True},
    }
    first, second = parse_study(values, "study").models
    assert (first.dense.epochs, first.dense.lr, second.dense.epochs, second.dense.lr) == (2, 0.1, 2, 0.3)
    assert (first.structures.ignore, second.structures.ignore) == ([], ["conv1"])
    assert first.structures.residual_streams
    assert second.structures.residual_streams


def test_a_mistake_in_a_shared_section_is_told_where_it_is(study_values, changed):
    values = study_values | {"models": ["resnet8", "resnet20"], "methods": ["oba", "taylor"]}
    for key, value in (("dense", ...), ("dense.lr", -1), ("method_defaults.rounds", 0), ("structures", 3)):
        with pytest.raises(ConfigError) as caught:
            parse_study(changed(values, key, value), "study")
        assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [key]
    own = values | {"models": [{"name": "resnet8", "dense": {"lr": -1}}, {"name": "resnet20", "dense": {"gamma": 2}}]}
    with pytest.raises(ConfigError) as caught:
        parse_study(own, "study")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "models.0.dense.lr",
        "models.1.dense.gamma",
    ]


def test_a_dumped_study_reads_back_the_same(study_values, tmp_path, changed):
    methods = ["magnitude", {"name": "x", "criterion": {"name": "oba-diag", "samples": 4}, "allocation": "uniform"}]
    values = changed(study_values, "preset", "oba-cifar") | {"methods": methods}
    study = parse_study({key: value for key, value in values.items() if key not in {"dense", "finetune"}}, "study")
    path = tmp_path / "study.json"
    path.write_text(json.dumps(dump_study(study)))
    assert load_resolved(path) == load_study(path) == study.model_copy(update={"preset": None})


def test_a_resolved_study_is_read_without_importing_what_it_names(study_values, tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(dump_study(parse_study(study_values, "study"))))
    heavy = ("torch", "torchvision", "timm", "mlflow", "sklearn", "pandas")
    code = (
        "import sys; from pathlib import Path; import oba.cli, oba.dag; from oba.study import load_resolved;"
        f"study = load_resolved(Path({str(path)!r})); "
        f"print(study.methods[0].criterion.name, [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "magnitude []"


def test_a_damaged_resolved_study_is_refused(study_values, tmp_path, changed):
    path = tmp_path / "study.json"
    values = dump_study(parse_study(study_values, "study"))
    path.write_text(json.dumps(changed(values, "keep", [2])))
    with pytest.raises(
        FileError, match=r"study.json: not a resolved study: keep.0: got 2.*; start the workflow again$"
    ):
        load_resolved(path)
