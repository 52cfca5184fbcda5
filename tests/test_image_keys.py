"""What a study may say of images and of their augmentation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from oba.data import prepare
from oba.datasets import _ARRAY_EDGE, AugmentConfig, DataConfig
from oba.errors import ConfigError
from oba.study import parse_study

POLICIES = [
    "none",
    "trivial",
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-m7-n3-p0.5-mstd101-mmax15",
    "rand-tweights",
    "rand-m9-t3aw",
    "original",
    "originalr-mstd1",
    "v0",
    "v0r-mstd0.5",
    "3a",
]
NO_POLICIES = [
    "",
    "random",
    "rand-",
    "rand-m9.5",
    "rand-m",
    "rand-z3",
    "rand-inc2",
    "rand-p2",
    "rand-tall",
    "rand_m9",
    "original-m9",
    "trivial-m9",
    "augmix-m5",
    "rand-m9\n",
]


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(policy: str) -> None:
    from oba.data.augmentations.policy import policy_changes

    changes = policy_changes(AugmentConfig(policy=policy), 32, (0.5, 0.5, 0.5))
    assert len(changes) == (policy != "none")


@pytest.mark.parametrize("policy", NO_POLICIES)
def test_no_policies(policy: str) -> None:
    with pytest.raises(ValidationError, match="allowed: none, trivial, timm's RandAugment"):
        AugmentConfig(policy=policy)


def test_an_unknown_policy_is_one_line(study_values: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_study({**study_values, "augment": {"policy": "rand-m9-inc2"}}, "study.yaml")
    assert str(caught.value).startswith(
        "study.yaml: augment.policy: got 'rand-m9-inc2'; allowed: none, trivial, timm's"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "given"), [({}, "not given"), ({"image_size": 64}, "64"), ({"image_size": 32}, "32")], ids=str
)
def test_only_files_are_cropped_to_a_fraction(
    study_values: dict[str, object], size: dict[str, int], given: str
) -> None:
    data = {"name": "imagefolder", "root": "here", "crop_fraction": 0.875}
    with pytest.raises(ConfigError) as caught:
        parse_study({**study_values, "data": {**data, **size}}, "study.yaml")
    assert str(caught.value) == (
        f"study.yaml: data: crop_fraction is 0.875, but image_size is {given}; allowed: 1.0, or an image_size above 64"
    )
    assert DataConfig.model_validate({**data, "image_size": 65}).crop_fraction == 0.875


def test_what_stays_files_is_said_once() -> None:
    assert _ARRAY_EDGE == prepare.ARRAY_EDGE
