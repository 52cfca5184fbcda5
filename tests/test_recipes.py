"""Mistakes in training recipes are told in one line; what does not apply is refused rather than ignored."""

from __future__ import annotations

import pytest

from oba.errors import ConfigError
from oba.study import parse_study

MISTAKES = [
    ({"optimizer": "adam"}, "optimizer: got 'adam'; allowed: 'sgd' or 'adamw'"),
    ({"optimizer": "adamw", "nesterov": True}, "nesterov is given, but optimizer is 'adamw'; allowed with optimizer"),
    ({"nesterov": True, "momentum": 0.0}, "nesterov is given, but momentum is 0; allowed: momentum above 0"),
    ({"beta2": 0.95}, "beta2 is given, but optimizer is 'sgd'; allowed with optimizer: adamw"),
    ({"decay": "norms"}, "decay: got 'norms'; allowed: 'all' or 'matrices'"),
    ({"clip_norm": 0}, "clip_norm: got 0; allowed: greater than 0"),
    ({"accumulate": 0}, "accumulate: got 0; allowed: greater than or equal to 1"),
    ({"accumulate": 9, "batch_size": 8}, "accumulate 9 must be at most batch_size 8"),
    ({"min_lr": 0.1, "lr": 0.1}, "min_lr 0.1 must be lower than lr 0.1"),
    ({"min_lr": 1e-5, "schedule": "step"}, "min_lr is given, but schedule is 'step'; allowed with schedule: cosine"),
    ({"warmup_lr": 0.01}, "warmup_lr is given, but warmup_epochs is 0; allowed with warmup_epochs of at least 1"),
    ({"warmup_lr": 0.2, "warmup_epochs": 1, "lr": 0.1}, "warmup_lr 0.2 must be lower than lr 0.1"),
    ({"mixup": -1}, "mixup: got -1; allowed: greater than or equal to 0"),
    ({"mix_probability": 0.5}, "mix_probability is given, but neither mixup nor cutmix; allowed with one of them"),
    ({"dropout": 1}, "dropout: got 1; allowed: less than 1"),
    ({"stochastic_depth": -0.1}, "stochastic_depth: got -0.1; allowed: greater than or equal to 0"),
    ({"ema": {"decay": 1}}, "ema.decay: got 1; allowed: less than 1"),
    ({"ema": {"deca": 0.9}}, "ema.deca: unknown key (did you mean 'decay'?); allowed: decay, warmup"),
    ({"distillation": {"weight": 0}}, "distillation.weight: got 0; allowed: greater than 0"),
    ({"distillation": {"temperature": 0}}, "distillation.temperature: got 0; allowed: greater than 0"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[str(changes) for changes, _ in MISTAKES])
def test_a_mistake_is_one_clear_line(study_values, changes, message):
    recipe = {"epochs": 4, "lr": 0.1, **changes}
    with pytest.raises(ConfigError) as caught:
        parse_study({**study_values, "finetune": recipe}, "my.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(("my.yaml: finetune: " + message, "my.yaml: finetune." + message))


def test_only_pruned_nets_learn_from_the_dense_one(study_values):
    dense = {**study_values["dense"], "distillation": {"weight": 0.5}}
    with pytest.raises(ConfigError, match=r"dense\.distillation: unknown key"):
        parse_study({**study_values, "dense": dense}, "my.yaml")


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"precision": "fp8"}, "runtime.precision: got 'fp8'; allowed: 'fp32', 'bf16' or 'fp16'"),
        ({"memory_format": "nhwc"}, "runtime.memory_format: got 'nhwc'; allowed: 'auto', 'contiguous' or 'channels-l"),
        ({"compile": 1}, "runtime.compile: got 1; allowed: a valid boolean"),
    ],
    ids=str,
)
def test_a_mistake_in_the_runtime_is_one_clear_line(study_values, runtime, message):
    with pytest.raises(ConfigError) as caught:
        parse_study({**study_values, "runtime": runtime}, "my.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"my.yaml: {message}")
