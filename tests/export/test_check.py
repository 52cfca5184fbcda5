"""What the comparison lets pass and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from stored_nets import MEAN, STD, Own, card_of
from torch import nn

from oba.errors import ExportError
from oba.export.check import BATCHES, TOLERANCE, check_outputs
from oba.models import build_model

CARD = card_of("Own", (3, 8, 8), 4)


def test_the_net_itself_differs_by_nothing(own):
    found = check_outputs(own, own, CARD, inside=False)
    assert found == {"1": 0.0, "2": 0.0, "5": 0.0}
    assert BATCHES == (1, 2, 5)


def test_a_net_that_normalises_gets_images_in_0_1_and_the_others_normalised_ones(own):
    seen = []

    def inside(images):
        seen.append(images)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
        return own((images - mean) / std)

    assert max(check_outputs(inside, own, CARD, inside=True).values()) < 1e-6
    values = torch.cat([images.flatten() for images in seen])
    assert 0 <= values.min() < 0.01 < 0.99 < values.max() <= 1
    with pytest.raises(ExportError, match=r"outputs differ from the net's by .* allowed: 0.0001 of it"):
        check_outputs(own, lambda images: own(images * 1.01), CARD, inside=True)


@pytest.mark.parametrize("name", ["resnet20", "torchvision/vit_b_16"])
def test_another_order_of_summation_passes_and_double_precision_shows_how_far_it_is(name):
    """The same net in double precision is as far from float32 as any right way of computing it."""
    torch.manual_seed(0)
    size = (3, 32, 32)
    net = build_model(name, num_classes=10, input_size=size).eval()
    exact = copy.deepcopy(net).double()
    found = check_outputs(lambda x: exact(x.double()).float(), net, card_of(name, size), inside=False)
    assert 0 < max(found.values()) < TOLERANCE / 5


def test_a_gelu_of_the_other_kind_and_another_epsilon_are_found():
    torch.manual_seed(1)
    net, other = Own().eval(), Own(nn.GELU(approximate="tanh")).eval()
    other.load_state_dict(net.state_dict())
    with pytest.raises(ExportError, match="differ"):
        check_outputs(other, net, CARD, inside=False)
    other = copy.deepcopy(net)
    other.norm.eps = 1e-3
    with pytest.raises(ExportError, match="differ"):
        check_outputs(other, net, CARD, inside=False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_are_refused(own, value):
    with pytest.raises(ExportError, match=r"differ from the net's by (nan|inf) on a batch of 1"):
        check_outputs(lambda x: own(x) + value, own, CARD, inside=False)
    with pytest.raises(ExportError, match="the net's own outputs on random images are not finite"):
        check_outputs(own, lambda x: own(x) * value, CARD, inside=False)


def test_outputs_of_another_shape_are_refused(own):
    with pytest.raises(ExportError, match=r"outputs of shape \(2, 4\) for a batch of 1, the net \(1, 4\)"):
        check_outputs(lambda x: own(x).expand(2, -1), own, CARD, inside=False)


def test_a_net_that_does_not_run_on_some_batch_is_refused(own):
    with pytest.raises(ExportError, match=r"does not run on a batch of 1 \(shape '\[2, -1\]' is invalid"):
        check_outputs(lambda x: x[:, :1, 0, :1].reshape(2, -1), own, CARD, inside=False)


def test_a_net_that_says_nothing_is_exported_exactly():
    silent = lambda x: torch.zeros(len(x), 4)  # noqa: E731
    assert max(check_outputs(silent, silent, CARD, inside=False).values()) == 0
    with pytest.raises(ExportError, match="differ"):
        check_outputs(lambda x: silent(x) + 1e-9, silent, CARD, inside=False)
