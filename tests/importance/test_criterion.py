from __future__ import annotations

import pytest
import torch
from scoring import CRITERIA
from torch import Tensor, nn

from oba import registry
from oba.errors import ConfigError, ScoreError
from oba.importance import score_structures
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, Target, make_criterion
from oba.importance.slices import layer_slices
from oba.options import Options
from oba.structures import Slice, StructureGroup

MODEL = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
GROUP = StructureGroup("0", (Slice("0", "out", ((0,), (1,), (2,))), Slice("2", "in", ((0,), (1,), (2,)))))
TARGET = Target(GROUP, layer_slices(MODEL, GROUP))


class Ones(Criterion[Options]):
    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        return {name: torch.ones_like(p) for name, p in model.named_parameters() if name.startswith("0")}


def test_a_criterion_needs_no_more_than_parameter_scores() -> None:
    found = Ones(Options()).batch_scores(MODEL, [TARGET], None)
    assert found.rows["0"].tolist() == [[3, 3, 3]]
    assert found.interactions is None
    assert found.variance is None


def test_channel_scores_feed_structures() -> None:
    class ByChannel(Criterion[Options]):
        def channel_scores(self, model: nn.Module, channels: object, batch: Batch | None) -> dict:
            return {("0", "out"): torch.tensor([1.0, 2, 3]), ("2", "in"): torch.tensor([4.0, 5, 6])}

    rows = ByChannel(Options()).batch_scores(MODEL, [TARGET], None).rows
    assert rows["0"].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ScoreError, match="criterion 'test-criterion' scores structures, not parameters"):
        ByChannel(Options()).parameter_scores(MODEL, None)


def test_a_structure_may_own_several_channels() -> None:
    group = StructureGroup("0", (Slice("0", "out", ((0, 2), (1, 1))),))
    rows = Ones(Options()).batch_scores(MODEL, [Target(group, layer_slices(MODEL, group))], None).rows
    assert rows["0"].tolist() == [[6, 6]]


def test_a_group_without_scores_is_refused() -> None:
    group = StructureGroup("2", (Slice("2", "out", ((0,), (1,))),))
    with pytest.raises(ScoreError, match="group '2': none of its layers has a score"):
        Ones(Options()).batch_scores(MODEL, [Target(group, layer_slices(MODEL, group))], None)


def test_a_criterion_that_was_made_before_scores_as_its_name_does() -> None:
    made = score_structures(MODEL, [GROUP], [], make_criterion("magnitude", magnitude="l2", over_layers="sum"))
    named = score_structures(MODEL, [GROUP], [], "magnitude", magnitude="l2", over_layers="sum")
    assert torch.equal(made.alone["0"], named.alone["0"])
    drawn = score_structures(MODEL, [GROUP], [], make_criterion("random", 7))
    assert torch.equal(drawn.alone["0"], score_structures(MODEL, [GROUP], [], "random", seed=7).alone["0"])


def test_every_file_is_a_criterion() -> None:
    assert set(CRITERIA) >= {"magnitude", "oba", "oba-exact", "random", "taylor"}
    for name in CRITERIA:
        criterion = make_criterion(name, 3)
        assert isinstance(criterion, Criterion)
        assert criterion.name == name
        assert criterion.seed == 3
        assert f"``{name}``" in (registry.load("criterion", name).__doc__ or "")


def test_frozen_statistics_are_what_a_criterion_without_a_choice_gets() -> None:
    assert make_criterion("oba", norm="train").norm == "train"
    assert make_criterion("oba").norm == make_criterion("magnitude").norm == "eval"


@pytest.mark.parametrize(
    ("criterion", "options", "message"),
    [
        ("oba-exact", {"order": 0}, "order: got 0; allowed: greater than or equal to 1"),
        ("magnitude", {"magnitude": "l3"}, "magnitude: got 'l3'; allowed: 'l1' or 'l2'"),
        ("magnitude", {"norm": "eval"}, "has no option 'norm'; allowed: normalizer, over_layers, magnitude"),
        ("oba-diag", {"normalizer": "max"}, "has no option 'normalizer'; allowed: norm, samples, hessian"),
        ("random", {"order": 2, "samples": 3}, "has no option 'order', 'samples'; allowed: none"),
    ],
)
def test_options_are_those_that_the_criterion_declares(criterion: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_criterion(criterion, **options)
    separator = " " if message.startswith("has") else ": "
    assert str(caught.value) == f"criterion '{criterion}'{separator}{message}"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown criterion 'oba-exat' \(did you mean 'oba-exact'\?\)"):
        make_criterion("oba-exat")
