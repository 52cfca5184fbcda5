"""Every mistake in a study is one line that names the key, what was given and what is allowed."""

from __future__ import annotations

import pytest

from oba.errors import ConfigError, FileError
from oba.study import load_study, parse_study

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
def test_a_mistake_is_one_clear_line(study_values, key, value, message, changed):
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


def test_all_mistakes_are_told_at_once(study_values, changed):
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
