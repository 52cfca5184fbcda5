"""Nets get the dropout and the stochastic depth that their library builds, and compute the same in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import oba
from oba.errors import ModelError
from oba.models import build_model
from oba.models.dropping import set_dropping, wanted_rates
from oba.recipes import TrainConfig
from oba.training.device import seeded

SIZES = {"num_classes": 5, "input_size": (3, 32, 32)}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def made(name: str) -> nn.Module:
    """Return a net in which every block counts: norms of scale 1, with the statistics of some images."""
    with seeded(0):
        model = build_model(name, **SIZES)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
                module.momentum = 1.0
        with torch.no_grad():
            model(torch.randn(16, 3, 32, 32))
    return model.eval()


def drawn(model: nn.Module, seed: int) -> torch.Tensor:
    """Return what a net in train mode gives, its norms frozen."""
    model.eval()
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._NormBase):
            module.training = True
    with seeded(seed), torch.no_grad():
        return model(IMAGES)


def rates_of(model: nn.Module, kind: str) -> list[float]:
    return [float(getattr(m, "drop_prob", getattr(m, "p", 0))) for m in model.modules() if type(m).__name__ == kind]


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("timm/resnet18", {"dropout": 0.3}),
        ("timm/resnet18", {"stochastic_depth": 0.4}),
        ("timm/test_vit", {"dropout": 0.2, "stochastic_depth": 0.4}),
        ("torchvision/efficientnet_b0", {"dropout": 0.6, "stochastic_depth": 0.4}),
        ("torchvision/vit_b_32", {"dropout": 0.1}),
    ],
    ids=str,
)
def test_a_net_drops_while_it_trains_and_not_otherwise(name, rates):
    model, before = made(name), torch.get_rng_state()
    with torch.no_grad():
        expected = model(IMAGES)
        set_dropping(model, name, **SIZES, rates=rates)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(model(IMAGES), expected)
    assert not torch.equal(drawn(model, 1), drawn(model, 2))
    assert torch.equal(drawn(model, 1), drawn(model, 1))


def test_depth_falls_off_linearly_over_the_blocks():
    model = made("timm/resnet18")
    set_dropping(model, "timm/resnet18", **SIZES, rates={"stochastic_depth": 0.7})
    assert rates_of(model, "DropPath") == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_a_rate_of_0_takes_away_what_the_library_has():
    model = made("torchvision/efficientnet_b0")
    assert max(rates_of(model, "StochasticDepth")) > 0.1
    set_dropping(model, "torchvision/efficientnet_b0", **SIZES, rates={"stochastic_depth": 0.0, "dropout": 0.0})
    assert set(rates_of(model, "StochasticDepth")) == set(rates_of(model, "Dropout")) == {0.0}
    assert torch.equal(drawn(model, 1), drawn(model, 2))


def test_a_pruned_net_takes_them_as_well():
    batches = [(IMAGES, torch.tensor([0, 1]))]
    method = {"criterion": "magnitude", "allocation": "uniform", "rounds": 1, "update": "none"}
    small = oba.prune(made("timm/test_vit"), batches, keep=0.5, method=method)
    with torch.no_grad():
        expected = small.eval()(IMAGES)
        set_dropping(small, "timm/test_vit", **SIZES, rates={"stochastic_depth": 0.5})
        torch.testing.assert_close(small(IMAGES), expected, rtol=0, atol=0)
    assert not torch.equal(drawn(small, 1), drawn(small, 2))
    assert len(rates_of(small, "DropPath")) >= 5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet8", "dropout"),
        ("vgg11", "stochastic_depth"),
        ("torchvision/resnet18", "dropout"),
        ("timm/vgg11", "stochastic_depth"),
    ],
)
def test_a_net_that_drops_nothing_is_refused(name, kind):
    with pytest.raises(ModelError) as caught:
        set_dropping(made(name), name, **SIZES, rates={kind: 0.1})
    assert str(caught.value) == f"{name}: takes no rate of {kind}; allowed: nets of timm or torchvision that have it"


def test_only_rates_that_are_given_are_wanted():
    assert wanted_rates(TrainConfig(epochs=1)) == {}
    assert wanted_rates(TrainConfig(epochs=1, dropout=0.0)) == {"dropout": 0.0}
    both = TrainConfig(epochs=1, dropout=0.1, stochastic_depth=0.2)
    assert wanted_rates(both) == {"dropout": 0.1, "stochastic_depth": 0.2}
