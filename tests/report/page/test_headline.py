from __future__ import annotations

import pytest

from oba.report.collect import collect
from oba.report.page.headline import headlines
from oba.report.summarize import summarize

TOP1 = {"dense": 0.97, "oba-joint": 0.95, "taylor": 0.94, "magnitude": 0.80}


@pytest.fixture
def said(make_sweep, monkeypatch):
    """Return a function: the sentences of a sweep in which methods have fixed accuracies, give or take the seeds."""

    def say(top1=TOP1, spread=0.001, **options):
        def of(self, model, seed, method, keep, scratch=False):
            return round(top1[method] + (seed - 0.5) * spread, 4)

        monkeypatch.setattr(type(make_sweep()), "top1", of)
        runs = collect(make_sweep(**options).write())
        return headlines(summarize(runs, "oba-joint"), runs)

    return say


def test_one_seed_is_judged_by_its_images(said):
    (text,) = said(seeds=(0,))
    assert text == (
        "At 30 % of the MACs, oba-joint reaches 95.0 % on the test images, 2.0 points below the dense network "
        "(97.0 %); the lowest of 3 methods is magnitude with 80.0 % (one seed). "
        "Within two standard errors of the best: taylor."
    )


def test_seeds_are_judged_by_their_spread(said):
    (text,) = said(seeds=(0, 1))
    assert "95.0 ± 0.1 %" in text
    assert text.endswith("magnitude with 80.0 ± 0.1 % (means over 2 seeds).")
    (text,) = said(seeds=(0, 1), spread=0.03)
    assert text.endswith("Within two standard errors of the best: taylor.")


def test_equal_methods_are_called_equal(said):
    (text,) = said(TOP1 | {"magnitude": 0.95, "taylor": 0.95})
    assert text.endswith("None can be told from the best: all differences are within two standard errors.")


def test_a_net_that_gained_is_said_to(said):
    (text,) = said(TOP1 | {"oba-joint": 0.98}, methods=("oba-joint",))
    assert "1.0 points above the dense network" in text
    (text,) = said(TOP1 | {"oba-joint": 0.97}, methods=("oba-joint",))
    assert "the same as the dense network" in text


def test_models_granularities_and_schedules_are_named(said):
    texts = said(
        models=("resnet20", "vgg19"),
        schedules=("iterative", "oneshot"),
        methods=("oba-joint", "taylor"),
        masking=("taylor",),
    )
    assert [text.partition(",")[0] for text in texts] == [
        "resnet20: At 30 % of the MACs",
        "resnet20: At 30 % of the weights",
        "vgg19: At 30 % of the MACs",
        "vgg19: At 30 % of the weights",
    ]
    assert "oba-joint (iterative)" in texts[0]
