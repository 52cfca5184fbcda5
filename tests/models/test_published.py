from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from oba.errors import ConfigError
from oba.models.published import PublishedWeights, default_tag, find_published, published_tags

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "given", "tag"),
    [
        ("resnet20", None, None),
        ("timm/coatnet_0_224", None, None),
        ("timm/resnet10t", None, "c3_in1k"),
        ("timm/resnet50.a2_in1k", None, "a2_in1k"),
        ("timm/resnet50", "a2_in1k", "a2_in1k"),
        ("torchvision/resnet50", None, "IMAGENET1K_V2"),
        ("torchvision/resnet50", "DEFAULT", "IMAGENET1K_V2"),
        ("torchvision/resnet50", "IMAGENET1K_V1", "IMAGENET1K_V1"),
    ],
)
def test_the_tag_is_given_or_in_the_name_or_the_librarys_default(name: str, given: str | None, tag: str | None) -> None:
    assert default_tag(name, given) == tag


def test_every_default_is_a_published_tag() -> None:
    timm = ["resnet50", "vit_base_patch16_224", "convnext_atto", "gcvit_xxtiny"]
    for name in [*(f"timm/{net}" for net in timm), "torchvision/vgg16", "torchvision/swin_t"]:
        assert default_tag(name) in published_tags(name)
    assert published_tags("vgg16") == []


def test_what_is_known_before_a_download() -> None:
    vit = find_published("timm/vit_base_patch16_224.augreg_in21k", None)
    assert (vit.net, vit.tag, vit.num_classes) == ("vit_base_patch16_224", "augreg_in21k", 21843)
    assert vit.statistics(3) == HALF
    assert vit.source == "https://huggingface.co/timm/vit_base_patch16_224.augreg_in21k"
    resnet = find_published("torchvision/resnet18", None)
    assert (resnet.tag, resnet.num_classes, resnet.statistics(3)) == ("IMAGENET1K_V1", 1000, IMAGENET)
    assert resnet.source == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    # These convert inputs of ImageNet's statistics themselves, which a net that is built without weights does not.
    assert find_published("torchvision/googlenet", None).statistics(3) == HALF


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("timm/resnet10t", "a1", "dense.weights: timm publishes no 'a1' for resnet10t; allowed: c3_in1k"),
        (
            "torchvision/resnet50",
            "V3",
            "dense.weights: torchvision publishes no 'V3' for resnet50; allowed: IMAGENET1K_V1, IMAGENET1K_V2",
        ),
        # The classifier of these is not a number.
        (
            "torchvision/vgg16",
            "IMAGENET1K_FEATURES",
            "dense.weights: torchvision publishes no 'IMAGENET1K_FEATURES' for vgg16; allowed: IMAGENET1K_V1",
        ),
        (
            "timm/resnet50.a1_in1k",
            "a2_in1k",
            "dense.weights: got 'a2_in1k', but the model's name says 'a1_in1k'; allowed: one of them, or both alike",
        ),
    ],
)
def test_weights_that_are_not_published_are_refused(name: str, tag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_published(name, tag)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["resnet20", "timm/coatnet_0_224"])
def test_nets_without_published_weights_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"dense\.from: 'pretrained', but nobody publishes weights for this net; allowed"
    ):
        find_published(name, None)


def published(**changes: Any) -> PublishedWeights:
    mean, std = IMAGENET
    values = {"library": "timm", "net": "net", "tag": "tag", "source": "", "num_classes": 1000}
    return PublishedWeights(**{**values, "mean": tuple(mean), "std": tuple(std), **changes})


def test_a_classifier_that_stays_must_fit() -> None:
    published().check_classes(1000, False)
    published().check_classes(7, True)
    with pytest.raises(
        ConfigError, match=r"^dense\.replace_head: the weights 'tag' have 1000 classes, .* has 7; allowed"
    ):
        published().check_classes(7, False)
    with pytest.raises(
        ConfigError, match="the weights 'tag' have no classifier, but the data set has 7; allowed: true"
    ):
        published(num_classes=0).check_classes(7, False)


def test_other_statistics_are_told_with_those_that_fit() -> None:
    assert published().mismatch(3, IMAGENET) is None
    assert published().mismatch(3, ([0.4855, 0.4562, 0.406], IMAGENET[1])) is None
    for used in (None, HALF, (IMAGENET[0], HALF[1]), ([0.5], [0.5])):
        told = published().mismatch(3, used) or ""
        assert told.endswith("{normalization: given, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}")
    assert published().warnings(3, IMAGENET) == []
    assert published().warnings(1, ([0.449], [0.226])) == ["the weights 'tag' of 3 channels are adapted to images of 1"]
    assert len(published().warnings(1, None)) == 2


def test_own_nets_cost_no_library() -> None:
    code = (
        "import sys; from oba.models.published import default_tag; default_tag('resnet8'); "
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
