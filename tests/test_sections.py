"""What each stage sees of a study."""

from __future__ import annotations

from oba.layout import Coordinates
from oba.sections import STAGES, DenseSections, FinetuneSections, PruneSections, TraceSections
from oba.study import parse_study


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
