"""Every mistake in a study is one line that names the key, what was given and what is allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml

from oba.config import PRESETS, Choice, Floors
from oba.errors import ConfigError, FileError
from oba.layout import Coordinates
from oba.schema import study_schema
from oba.section import scientific
from oba.sections import STAGES, DenseSections, FinetuneSections, PruneSections, TraceSections
from oba.study import dump_study, load_resolved, load_study, parse_study, retyped

ROOT = Path(__file__).parents[1]


def changed(values, key, value):
    """Return a copy of ``values`` with the dotted key set (or removed, for ``...``)."""
    values = deepcopy(values)
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section.setdefault(part, {})
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return values


MISTAKES = [
    ("finetune.epoch", 3, "finetune.epoch: unknown key (did you mean 'epochs'?); allowed: epochs, batch_size"),
    ("kep", [0.5], "kep: unknown key (did you mean 'keep'?); allowed: experiment"),
    ("dense.form", "train", "dense.form: unknown key (did you mean 'from'?)"),
    ("finetune.epochs", "ten", "finetune.epochs: got 'ten'; allowed: a valid integer"),
    ("finetune.epochs", 2.5, "finetune.epochs: got 2.5; allowed: a valid integer"),
    ("finetune.epochs", -1, "finetune.epochs: got -1; allowed: greater than or equal to 0"),
    ("finetune.lr", "fast", "finetune.lr: got 'fast'; allowed: a valid number"),
    ("finetune.lr", float("nan"), "finetune.lr: got nan; allowed: a finite number"),
    ("augment.flip", "no", "augment.flip: got 'no'; allowed: a valid boolean"),
    ("runtime.device", "gpu", "runtime.device: got 'gpu'; allowed: 'auto', 'cpu' or 'cuda'"),
    ("keep", [0.3, 0.6], "keep: levels [0.3, 0.6] must decrease, for example [0.7, 0.5, 0.3]"),
    ("keep", [0.5, 0.5], "keep: levels [0.5, 0.5] must decrease"),
    ("keep", [0.555], "keep: levels [0.555] must be multiples of 0.01"),
    ("keep", [1.5], "keep.0: got 1.5; allowed: less than 1"),
    ("keep", [], "keep: got []; List should have at least 1 item"),
    ("keep", 0.5, "keep: got 0.5; allowed: a valid list"),
    ("seeds", [0, 0], "seeds: [0, 0] names something twice; allowed: each entry once"),
    ("models", ["resnet9"], "models: unknown model 'resnet9' (did you mean "),
    ("models", ["timm/resnet5"], "models: unknown model 'timm/resnet5'"),
    (
        "models",
        [{"name": "resnet8", "dense": {"epoch": 1}}],
        "models.0.dense.epoch: unknown key (did you mean 'epochs'?",
    ),
    ("models", [{"name": "resnet8", "kind": 1}], "models.0.kind: unknown key; allowed: name, dense, structures"),
    ("models", ["resnet8", {"name": "resnet8"}], "models: ['resnet8', 'resnet8'] names something twice"),
    ("methods", ["ob"], "methods.ob.criterion: unknown criterion 'ob' (did you mean 'oba'?); allowed: "),
    (
        "methods",
        ["oba", "oba"],
        "methods: ['oba', 'oba'] names something twice; allowed: each entry once; give methods",
    ),
    ("methods", [{"name": "dense", "criterion": "oba"}], "methods: 'dense' is a name of the pipeline's own"),
    (
        "methods",
        [{"name": "dense-longer", "criterion": "oba"}],
        "methods: 'dense-longer' is a name of the pipeline's own",
    ),
    ("methods", [{"name": "a/b", "criterion": "oba"}], "methods.0.name: got 'a/b'; String should match pattern"),
    ("methods", [{"name": "x"}], "methods.0.criterion: missing; this key must be given"),
    (
        "methods",
        [{"criterion": "oba", "round": 3}],
        "methods.0.round: unknown key (did you mean 'rounds'?); allowed: name",
    ),
    (
        "methods",
        [{"criterion": "oba", "floors": {"rund_to": 3}}],
        "methods.0.floors.rund_to: unknown key (did you mean",
    ),
    (
        "methods",
        [{"criterion": "oba", "update": "nrm"}],
        "methods.oba.update: unknown update 'nrm' (did you mean 'norm'?)",
    ),
    (
        "methods",
        [{"name": "x", "criterion": {"name": "magnitude", "order": 1}}],
        "methods.x: criterion 'magnitude' has no option 'order'; allowed: normalizer, over_layers, magnitude",
    ),
    (
        "methods",
        [{"criterion": "oba", "allocation": {"name": "global", "rank": "macs"}}],
        "methods.oba: allocation 'global' has no option 'rank'; allowed: scope",
    ),
    (
        "methods",
        [{"criterion": {"name": "oba-exact", "order": 0}}],
        "methods.oba-exact: criterion 'oba-exact': order: got 0; allowed: greater than or equal to 1",
    ),
    (
        "methods",
        [{"criterion": {"name": "oba-joint", "hessian": "probes"}}],
        "methods.oba-joint: criterion 'oba-joint': hessian: got 'probes'; allowed: 'auto', 'exact' or 'gauss-newton'",
    ),
    (
        "methods",
        [{"criterion": {"name": "oba-diag", "hessian": "gauss-newton", "norm": "train"}}],
        "methods.oba-diag: criterion 'oba-diag': hessian 'gauss-newton' needs examples that do not depend on each",
    ),
    (
        "method_defaults.criterion",
        {"order": 2},
        "method_defaults.criterion: no criterion of this study has an option 'order'; allowed: magnitude, normalizer",
    ),
    (
        "method_defaults.allocation",
        "globl",
        "methods.magnitude.allocation: unknown allocation 'globl' (did you mean 'gl",
    ),
    ("method_defaults.round", 3, "method_defaults.round: unknown key (did you mean 'rounds'?); allowed: criterion"),
    ("method_defaults.rounds", 0, "method_defaults.rounds: got 0; allowed: greater than or equal to 1"),
    ("method_defaults.floors", {"max_removed": 1}, "method_defaults.floors.max_removed: got 1; allowed: less than 1"),
    ("method_defaults", [1], "method_defaults: got [1]; allowed: a valid dictionary or instance of MethodDefaults"),
    (
        "structures.ignor",
        [],
        "structures.ignor: unknown key (did you mean 'ignore'?); allowed: ignore, channels",
    ),
    (
        "methods",
        [{"criterion": "fpgm", "granularity": "weights"}],
        "methods.fpgm.criterion: 'fpgm' does not go with granularity: weights; allowed: ",
    ),
    (
        "methods",
        [{"criterion": "oba", "granularity": "weights", "update": "bias"}],
        "methods.oba.update: 'bias' does not go with granularity: weights; allowed: none, norm",
    ),
    (
        "methods",
        [{"criterion": "oba", "granularity": "weights", "allocation": "per-mac"}],
        "methods.oba.allocation: unknown weight allocation 'per-mac'; allowed: erk, global, n-m, uniform",
    ),
    (
        "methods",
        [{"criterion": "oba", "allocation": "erk"}],
        "methods.oba.allocation: unknown allocation 'erk'; allowed: error-curves, given, global, per-mac, uniform",
    ),
    (
        "methods",
        [{"criterion": {"name": "oba", "normalizer": "sum"}, "granularity": "weights"}],
        "methods.oba: criterion 'oba' has no option 'normalizer' with granularity: weights; allowed: norm, over_b",
    ),
    (
        "methods",
        [{"criterion": {"name": "oba", "add_magnitude": True}}],
        "methods.oba: criterion 'oba' has no option 'add_magnitude' with granularity: structures; allowed: normalizer",
    ),
    (
        "methods",
        [{"criterion": "oba", "granularity": "weights", "floors": {"round_to": 8}}],
        "methods.0: floors are given, but granularity is 'weights'; allowed with granularity: structures",
    ),
    (
        "methods",
        [{"criterion": "oba", "floors": None}],
        "methods.0: floors is null; allowed with granularity: weights",
    ),
    (
        "methods",
        [{"criterion": "oba", "granularity": "weights", "allocation": {"name": "n-m", "n": 4}}],
        "methods.oba: allocation 'n-m': n: got 4; allowed: less than m (4)",
    ),
    (
        "methods",
        [{"criterion": "oba", "granularity": "weight"}],
        "methods.0.granularity: got 'weight'; allowed: 'structures' or 'weights'",
    ),
    (
        "method_defaults.descent",
        "steep",
        "method_defaults.descent: got 'steep'; allowed: 'linear', 'exponential' or 'cubic'",
    ),
    ("calibration.images", 0, "calibration.images: got 0; allowed: greater than or equal to "),
    ("data.name", "digit", "data.name: unknown data set 'digit' (did you mean 'digits'?); allowed: cifar10"),
    ("schedules", ["gradual"], "schedules.0: got 'gradual'; allowed: 'iterative' or 'oneshot'"),
    ("controls", ["dense"], "controls.0: got 'dense'; allowed: 'scratch' or 'dense-longer'"),
    ("dense.epochs", 0, "dense: epochs is 0, but dense.from is 'train'; allowed: at least 1 epoch"),
    ("dense.warmup_epochs", 2, "dense: warmup_epochs 2 must be fewer than epochs 2"),
    ("finetune.milestones", [1], "finetune: milestones are given, but schedule is 'cosine'"),
    ("experiment", "a b", "experiment: got 'a b'; String should match pattern"),
    ("experiment", ..., "experiment: missing; this key must be given"),
    ("preset", "paper", "preset: got 'paper'; allowed: 'oba-cifar'"),
    ("data", "digits", "data: got 'digits'; allowed: a valid dictionary or instance of DataConfig"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=[f"{k}={v}" for k, v, _ in MISTAKES])
def test_a_mistake_is_one_clear_line(study_values, key, value, message):
    with pytest.raises(ConfigError) as caught:
        parse_study(changed(study_values, key, value), "my.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("my.yaml: " + message)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"epochs": 9, "schedule": "step", "milestones": [6, 3]}, "milestones [6, 3] must increase"),
        ({"epochs": 9, "schedule": "step", "milestones": [9]}, "milestones [9] must lie before the last of 9 epochs"),
    ],
)
def test_milestones_must_fit(study_values, section, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        parse_study(study_values | {"finetune": section}, "study")


def test_all_mistakes_are_told_at_once(study_values):
    wrong = changed(changed(study_values, "kep", 1), "finetune.lr", -1)
    with pytest.raises(ConfigError) as caught:
        parse_study(wrong, "study")
    assert len(str(caught.value).splitlines()) == 2


def test_a_study_must_hold_keys():
    with pytest.raises(ConfigError, match="study: got list; allowed: keys and values"):
        parse_study([1, 2], "study")


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileError, match="no such study file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(FileError, match="not valid YAML"):
        load_study(tmp_path / "broken.yaml")


def testscientific_notation_is_a_number(study_values):
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


def test_preset_fills_in_and_the_file_wins(study_values):
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


def test_a_preset_may_have_options_that_no_criterion_of_the_study_has(study_values):
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


def test_a_mistake_in_a_shared_section_is_told_where_it_is(study_values):
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


def test_a_dumped_study_reads_back_the_same(study_values, tmp_path):
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


def test_a_damaged_resolved_study_is_refused(study_values, tmp_path):
    path = tmp_path / "study.json"
    values = dump_study(parse_study(study_values, "study"))
    path.write_text(json.dumps(changed(values, "keep", [2])))
    with pytest.raises(
        FileError, match=r"study.json: not a resolved study: keep.0: got 2.*; start the workflow again$"
    ):
        load_resolved(path)


SHIPPED = sorted({*ROOT.glob("config/**/*.yaml")} - {*ROOT.glob("config/paper/smoke/*")})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path):
    assert load_study(path).experiment


def numbers(values):
    """Read texts that write numbers, such as ``5e-4``, as the study does and YAML 1.2 would."""
    if isinstance(values, dict):
        return {key: numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [numbers(value) for value in values]
    return scientific(values)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_fit_the_schema_that_editors_use(path):
    schema = study_schema()
    checker = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in checker.iter_errors(numbers(yaml.safe_load(path.read_text())))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods", ["oba", {"criterion": {"name": "magnitude", "magnitude": "l2"}, "rounds": 1}]),
        ("methods", [{"name": "x", "criterion": "oba", "allocation": {"name": "global"}, "update": "none"}]),
        ("methods", [{"criterion": "oba", "floors": {"round_to": 8}, "keep_scores": True}]),
        ("method_defaults", {"criterion": {"norm": "train"}, "allocation": "uniform", "rounds": 2}),
        ("models", ["resnet8", {"name": "resnet20", "dense": {"lr": 0.3}, "structures": {"ignore": ["a"]}}]),
    ],
)
def test_the_schema_accepts_what_a_study_may_say(study_values, key, value):
    values = study_values | {"methods": ["oba"]} | {key: value}
    assert parse_study(values, "study")
    jsonschema.validate(values, study_schema())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods", [{"criterion": {"name": "magnitude", "norm": "train"}}]),
        ("methods", [{"criterion": {"name": "oba-exact", "order": 0}}]),
        ("methods", [{"criterion": "ob"}]),
        ("methods", [{"criterion": "oba", "allocation": {"name": "global", "rank": "macs"}}]),
        ("methods", [{"criterion": "oba", "round": 2}]),
        ("methods", [{"name": "x"}]),
        ("method_defaults", {"update": "nrm"}),
        ("models", [{"name": "resnet8", "dense": {"epoch": 1}}]),
        ("models", [{"dense": {"epochs": 1}}]),
        ("kep", [0.5]),
    ],
)
def test_the_schema_refuses_what_a_study_may_not_say(study_values, key, value):
    values = study_values | {key: value}
    with pytest.raises(ConfigError):
        parse_study(values, "study")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, study_schema())


def test_schema_is_current_and_documents_every_key():
    schema = json.loads((ROOT / "workflow/schemas/study.schema.json").read_text())
    assert schema == study_schema(), "run `make schema`"
    entries = {f"{kind} {entry['properties']['name']['const']}": entry for kind, entry in _entries(schema)}
    assert {"criterion oba", "allocation global", "update norm"} < entries.keys()
    sections = {name: section for name, section in schema["$defs"].items() if "properties" in section}
    for name, section in ({"Study": schema} | sections | entries).items():
        for key, field in section["properties"].items():
            assert {"description", "$ref", "const"} & field.keys(), f"{name}.{key} is not documented"


def _entries(schema):
    for kind in ("criterion", "allocation", "update"):
        for entry in schema["$defs"][kind]["anyOf"]:
            if "properties" in entry:
                yield kind, entry


def test_a_stage_sees_its_slice_only(study_values):
    at = Coordinates("resnet8", 0, "magnitude", "iterative", "0.60")
    numbers = {"threads": {"dense": 2, "finetune": 3}, "gpus": {"dense": 4, "finetune": 5, "prune": 6}}
    study = parse_study(study_values | numbers, "study")
    assert set(DenseSections.of(study, at).model_dump()) == {"augment", "dense", "runtime", "threads", "gpus"}
    assert (DenseSections.of(study, at).threads, FinetuneSections.of(study, at).threads) == (2, 3)
    assert [STAGES[name].of(study, at).gpus for name in ("dense", "prune", "finetune", "evaluate")] == [4, 6, 5, 1]
    assert (STAGES["scratch"].of(study, at).threads, STAGES["scratch"].of(study, at).gpus) == (3, 5)
    changed = {"finetune": {"epochs": 9}, "threads": {"dense": 2}, "gpus": {"dense": 4}}
    other = parse_study(study_values | changed, "study")
    assert DenseSections.of(study, at) == DenseSections.of(other, at)
    assert FinetuneSections.of(study, at) != FinetuneSections.of(other, at)


def test_a_stage_sees_its_own_model_and_method(study_values):
    models = ["resnet8", {"name": "timm/resnet10t", "dense": {"lr": 0.3}, "structures": {"ignore": ["conv1"]}}]
    methods = ["magnitude", {"name": "own", "criterion": "taylor", "rounds": 7}]
    study = parse_study(study_values | {"models": models, "methods": methods}, "study")
    first, second = Coordinates("resnet8", 0, "magnitude"), Coordinates("timm-resnet10t", 0, "own")
    assert (DenseSections.of(study, first).dense.lr, DenseSections.of(study, second).dense.lr) == (0.1, 0.3)
    assert TraceSections.of(study, first).structures.ignore == []
    assert TraceSections.of(study, second).structures.ignore == ["conv1"]
    for at, method in zip((first, second), study.methods, strict=True):
        assert PruneSections.of(study, at).method.model_dump() == method.model_dump(exclude={"finetune"})
    assert PruneSections.of(study, Coordinates("resnet8", 0, "dense-longer")).method is None


def test_what_trains_does_not_see_what_calibrates(study_values):
    at = Coordinates("resnet8", 0, "magnitude", "iterative", "0.60")
    study = parse_study(study_values, "study")
    other = parse_study(study_values | {"calibration": {"images": 7}}, "study")
    moved = {name for name, sections in STAGES.items() if sections.of(study, at) != sections.of(other, at)}
    assert moved == {"prune"}
