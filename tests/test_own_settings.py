"""Models have structures and dense nets of their own, methods their fine-tuning; the rest is the study's."""

from __future__ import annotations

from typing import Any

import pytest

from oba.config import Study
from oba.dag import STAGES
from oba.errors import ConfigError
from oba.layout import DENSE_LONGER, Coordinates, Layout
from oba.recipes import DistillationConfig
from oba.sections import (
    DenseSections,
    EvaluateSections,
    FinetuneSections,
    PruneSections,
    ScratchSections,
    StageSections,
    TraceSections,
)
from oba.stages.scratch import recipe
from oba.study import dump_study, parse_study


def parsed(**changes: Any) -> Study:
    values = {
        "experiment": "tiny",
        "data": {"name": "digits"},
        "models": [
            "resnet8",
            {
                "name": "timm/resnet10t",
                "dense": {"from": "pretrained", "epochs": 0},
                "structures": {"ignore": ["layer4.*"]},
            },
        ],
        "seeds": [0],
        "methods": ["taylor"],
        "keep": [0.6],
        "dense": {"epochs": 20, "lr": 0.05},
        "structures": {"ignore": ["conv1"], "residual_streams": True},
        "finetune": {"epochs": 1},
    }
    return parse_study(values | changes, "study")


def seen(stage: type[StageSections], model: str, **changes: Any) -> Any:
    return stage.of(parsed(**changes), Coordinates(model=model, seed=0))


def test_a_model_wins_key_by_key_over_the_sections_of_the_study() -> None:
    plain, own = parsed().models
    assert (plain.dense.source, plain.dense.epochs, plain.dense.lr) == ("train", 20, 0.05)
    assert (own.dense.source, own.dense.epochs, own.dense.lr) == ("pretrained", 0, 0.05)
    assert (plain.structures.ignore, plain.structures.residual_streams) == (["conv1"], True)
    assert (own.structures.ignore, own.structures.residual_streams) == (["layer4.*"], True)
    assert parse_study(dump_study(parsed()), "study") == parsed()


def test_a_study_spells_out_which_published_weights_it_starts_from() -> None:
    def weights(model: str, **dense: Any) -> str | None:
        [own] = parsed(models=[{"name": model, "dense": {"from": "pretrained", **dense}}]).models
        return own.dense.weights

    assert parsed().models[1].dense.weights == "c3_in1k"
    assert weights("timm/resnet50.a2_in1k") == "a2_in1k"
    assert weights("timm/resnet50", weights="a3_in1k") == "a3_in1k"
    assert weights("torchvision/resnet50") == weights("torchvision/resnet50", weights="DEFAULT") == "IMAGENET1K_V2"
    assert weights("resnet20") is None  # there are none: the quick check says so


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        ({"weights": "a1"}, "weights is 'a1', but dense.from is 'train'; allowed with 'pretrained' or a weight file"),
        ({"replace_head": True}, "replace_head is true, with from: train and epochs: 20; allowed with weights from"),
        (
            {"from": "a.pt", "epochs": 0, "replace_head": True},
            "replace_head is true, with from: a.pt and epochs: 0; allowed with weights from elsewhere and at least 1",
        ),
        ({"from": "{x}.pt"}, "from is '{x}.pt', but Snakemake reads braces as wildcards; allowed: a path without"),
    ],
)
def test_what_a_source_of_weights_cannot_have_is_refused(dense: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(models=[{"name": "resnet8", "dense": dense}])
    assert str(caught.value).startswith(f"study: models.0.dense: {message}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_job_sees_the_settings_of_its_own_model() -> None:
    changed = [{"name": "resnet8", "structures": {"ignore": []}, "dense": {"lr": 0.01}}, parsed().models[1].name]
    for stage in (TraceSections, DenseSections):
        assert seen(stage, "resnet8") != seen(stage, "resnet8", models=changed)
    only_first = [changed[0], dump_study(parsed())["models"][1]]
    for stage in (TraceSections, DenseSections):
        assert seen(stage, "timm-resnet10t") == seen(stage, "timm-resnet10t", models=only_first)


def test_a_mistake_in_a_models_own_section_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^study: models\.0\.dense\.lr: got -1; allowed: greater than 0$"):
        parsed(models=[{"name": "resnet8", "dense": {"lr": -1}}])
    with pytest.raises(ConfigError, match=r"^study: models\.0\.structure: unknown key \(did you mean 'structures'\?\)"):
        parsed(models=[{"name": "resnet8", "structure": {}}])
    with pytest.raises(ConfigError, match=r"^study: models\.0\.dense\.epoch: unknown key \(did you mean 'epochs'\?\)"):
        parsed(models=[{"name": "resnet8", "dense": {"epoch": 3}}])
    with pytest.raises(ConfigError, match=r"^study: methods\.0\.floors\.max: unknown key; allowed: max_removed, "):
        parsed(methods=[{"criterion": "taylor", "floors": {"max": 0.3}}])
    with pytest.raises(ConfigError, match=r"^study: scratch\.epoch: unknown key \(did you mean 'epochs'\?\)"):
        parsed(scratch={"epochs": 3, "epoch": 3})


def test_scratch_needs_a_recipe_for_dense_nets_from_elsewhere() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(controls=["scratch"])
    assert str(caught.value) == (
        "study: controls: 'scratch' has no recipe for timm/resnet10t, whose dense net is not trained here "
        "(dense.from); allowed: with a section scratch (epochs, lr, ...)"
    )
    parsed(controls=["scratch"], models=["resnet8"])
    parsed(controls=["scratch"], scratch={"epochs": 30})
    with pytest.raises(ConfigError, match=r"^study: scratch\.epochs: got 0; allowed: greater than or equal to 1$"):
        parsed(controls=["scratch"], scratch={"epochs": 0})


def test_scratch_follows_its_own_recipe_else_the_dense_one_over_all_epochs() -> None:
    at, own = "resnet8", {"epochs": 30, "lr": 0.2}
    sections = ScratchSections.of(parsed(scratch=own), Coordinates(model=at, seed=0))
    assert (recipe(sections, 21).epochs, recipe(sections, 21).lr) == (30, 0.2)
    steps = {"epochs": 20, "lr": 0.05, "schedule": "step", "milestones": [10, 15]}
    sections = ScratchSections.of(parsed(dense=steps, models=["resnet8"]), Coordinates(model=at, seed=0))
    stretched = recipe(sections, 40)
    assert (stretched.epochs, stretched.lr, stretched.milestones) == (40, 0.05, [20, 30])


FAST = {"name": "fast", "criterion": "taylor", "finetune": {"lr": 0.5, "distillation": {"weight": 0.3}}}
LEVEL = {"model": "resnet8", "seed": 0, "schedule": "iterative", "keep": "0.60"}


@pytest.mark.parametrize("method", ["taylor", "fast", DENSE_LONGER])
def test_a_method_may_train_its_nets_on_in_its_own_way(method: str) -> None:
    study = parsed(methods=["taylor", FAST], controls=["dense-longer"])
    expected = study.finetune
    if method == "fast":
        expected = expected.model_copy(update={"lr": 0.5, "distillation": DistillationConfig(weight=0.3)})
    at = Coordinates(method=method, **LEVEL)
    assert FinetuneSections.of(study, at).finetune == expected
    reads = STAGES["finetune"].reads(study, Layout("tiny"), at)
    dense = [Layout("tiny").dense(at) / name for name in ("model.safetensors", "plan.json")]
    assert reads.get("teacher") == (dense if method == "fast" else None)
    assert parse_study(dump_study(study), "study") == study


def test_a_job_depends_on_the_code_of_what_its_recipe_needs() -> None:
    own = {**FAST, "finetune": {"mixup": 0.2, "decay": "matrices"}}
    study = parsed(methods=["taylor", own], dense={"epochs": 2, "ema": {}}, scratch={"epochs": 3, "cutmix": 1.0})

    def ingredients(stage: str, method: str) -> list[str]:
        roots = STAGES[stage].roots(study, Coordinates(method=method, **LEVEL))
        return [name.rpartition(".")[2] for name in roots if "ingredients" in name]

    assert ingredients("dense", "fast") == ["average"]
    assert ingredients("finetune", "taylor") == ingredients("prune", "fast") == []
    assert ingredients("finetune", "fast") == ["decay", "mixing"]
    assert ingredients("scratch", "fast") == ["mixing"]


def test_pruning_does_not_depend_on_how_nets_are_trained_on() -> None:
    at = Coordinates(method="fast", **LEVEL)
    seen = [PruneSections.of(parsed(methods=[method]), at) for method in (FAST, {**FAST, "finetune": {}})]
    assert seen[0] == seen[1]
    assert "finetune" not in seen[0].model_dump()["method"]


def test_only_training_depends_on_how_training_runs() -> None:
    at = Coordinates(method="taylor", **LEVEL)
    plain = parsed()
    other = parsed(runtime={"precision": "bf16", "tf32": False, "memory_format": "contiguous", "compile": True})
    for stage in (PruneSections, EvaluateSections):
        assert stage.of(plain, at) == stage.of(other, at) != stage.of(parsed(runtime={"deterministic": False}), at)
    for stage in (DenseSections, FinetuneSections, ScratchSections):
        assert stage.of(plain, at) != stage.of(other, at)
