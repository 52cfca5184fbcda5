"""Every mistake in a study is one line that names the key, what was given and what is allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from oba.config import PRESETS, Study
from oba.errors import ConfigError, FileError
from oba.sections import STAGES, DenseSections, FinetuneSections
from oba.study import dump_study, load_study, parse_study, retyped

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
    ("criteria", ["ob"], "criteria: unknown criterion 'ob' (did you mean 'oba'?); allowed: "),
    ("data.name", "digit", "data.name: unknown data set 'digit' (did you mean 'digits'?); allowed: cifar10"),
    ("schedules", ["gradual"], "schedules.0: got 'gradual'; allowed: 'iterative' or 'oneshot'"),
    ("controls", ["dense"], "controls.0: got 'dense'; allowed: 'scratch' or 'dense-longer'"),
    ("dense.epochs", 0, "dense: epochs is 0, but dense.from is 'train'; allowed: at least 1 epoch"),
    ("dense.warmup_epochs", 2, "dense: warmup_epochs 2 must be fewer than epochs 2"),
    ("finetune.milestones", [1], "finetune: milestones are given, but schedule is 'cosine'"),
    ("experiment", "a b", "experiment: got 'a b'; String should match pattern"),
    ("experiment", ..., "experiment: missing; this key must be given"),
    ("preset", "paper", "preset: got 'paper'; allowed: 'oba-cifar'"),
    ("scoring.order", 0, "scoring.order: got 0; allowed: greater than or equal to 1"),
    ("scoring.hessian", "hutchinson", "scoring.hessian: got 'hutchinson'; allowed: 'auto', 'exact', 'gauss-newton'"),
    ("scoring", {"hessian": "gauss-newton", "norm": "train"}, "scoring.hessian: 'gauss-newton' needs examples that"),
    ("pruning.rank", "macs", "pruning.rank: got 'macs'; allowed: 'score' or 'per-mac'"),
    ("pruning.max_removed", 1, "pruning.max_removed: got 1; allowed: less than 1"),
    ("data", "digits", "data: got 'digits'; allowed: a valid dictionary or instance of DataConfig"),
]


def test_probes_know_no_interactions(study_values):
    values = changed(changed(study_values, "scoring", {"hessian": "probes"}), "criteria", ["taylor", "oba-joint"])
    with pytest.raises(ConfigError, match=r"scoring.hessian: .probes. estimates the diagonal alone"):
        parse_study(values, "my.yaml")
    assert parse_study(changed(values, "criteria", ["oba-diag"]), "my.yaml").scoring.hessian == "probes"


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


def test_scientific_notation_is_a_number(study_values):
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


def test_preset_fills_in_and_the_file_wins(study_values):
    values = changed(study_values, "preset", "oba-cifar")
    del values["dense"]
    study = parse_study(changed(values, "finetune.epochs", 130), "study")
    assert (study.dense.epochs, study.dense.milestones, study.dense.lr) == (200, [60, 100, 150], 0.1)
    assert (study.finetune.epochs, study.finetune.milestones, study.finetune.lr) == (130, [80, 120], 1e-3)
    assert study.scoring.norm == "train"
    assert study.splits.calibration == 200 * study.scoring.batch_size == PRESETS["oba-cifar"]["splits"]["calibration"]


def test_a_dumped_study_reads_back_the_same(study_values):
    values = changed(study_values, "preset", "oba-cifar")
    study = parse_study({key: value for key, value in values.items() if key not in {"dense", "finetune"}}, "study")
    again = parse_study(json.loads(json.dumps(dump_study(study))), "study")
    assert again == study.model_copy(update={"preset": None})


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path):
    assert load_study(path).experiment


def test_schema_is_current_and_documents_every_key():
    schema = json.loads((ROOT / "workflow/schemas/study.schema.json").read_text())
    assert schema == Study.model_json_schema(by_alias=True), "run `make schema`"
    for name, section in {"Study": schema, **schema["$defs"]}.items():
        for key, field in section["properties"].items():
            assert "description" in field or "$ref" in field, f"{name}.{key} is not documented"


def test_a_stage_sees_its_slice_only(study_values):
    study = parse_study(study_values | {"threads": {"dense": 2, "finetune": 3}}, "study")
    assert set(DenseSections.of(study).model_dump()) == {"augment", "dense", "runtime", "threads"}
    assert (DenseSections.of(study).threads, FinetuneSections.of(study).threads) == (2, 3)
    assert STAGES["scratch"].of(study).threads == 3
    other = parse_study(study_values | {"finetune": {"epochs": 9}, "threads": {"dense": 2}}, "study")
    assert DenseSections.of(study) == DenseSections.of(other)
    assert FinetuneSections.of(study) != FinetuneSections.of(other)


def test_reading_a_study_imports_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; import oba.cli; from oba.study import load_study;"
        "load_study(Path('config/config.yaml')); "
        "print([m for m in ('torch', 'torchvision', 'timm', 'mlflow', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
