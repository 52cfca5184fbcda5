from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oba import registry
from oba.errors import ConfigError, ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, Options, Target, load_criterion
from oba.importance.slices import layer_slices
from oba.structures import Slice, StructureGroup

MODEL = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
GROUP = StructureGroup("0", (Slice("0", "out", ((0,), (1,), (2,))), Slice("2", "in", ((0,), (1,), (2,)))))
TARGET = Target(GROUP, layer_slices(MODEL, GROUP))


class Ones(Criterion):
    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        return {name: torch.ones_like(p) for name, p in model.named_parameters() if name.startswith("0")}


def test_a_criterion_needs_no_more_than_parameter_scores() -> None:
    rows = Ones(Options()).structure_scores(MODEL, [TARGET], None)
    assert rows["0"].tolist() == [[3, 3, 3]]


def test_channel_scores_feed_structures() -> None:
    class ByChannel(Criterion):
        def channel_scores(self, model: nn.Module, channels: object, batch: Batch | None) -> dict:
            return {("0", "out"): torch.tensor([1.0, 2, 3]), ("2", "in"): torch.tensor([4.0, 5, 6])}

    rows = ByChannel(Options()).structure_scores(MODEL, [TARGET], None)
    assert rows["0"].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ScoreError, match="criterion 'test-criterion' scores structures, not parameters"):
        ByChannel(Options()).parameter_scores(MODEL, None)


def test_a_structure_may_own_several_channels() -> None:
    group = StructureGroup("0", (Slice("0", "out", ((0, 2), (1, 1))),))
    rows = Ones(Options()).structure_scores(MODEL, [Target(group, layer_slices(MODEL, group))], None)
    assert rows["0"].tolist() == [[6, 6]]


def test_a_group_without_scores_is_refused() -> None:
    group = StructureGroup("2", (Slice("2", "out", ((0,), (1,))),))
    with pytest.raises(ScoreError, match="group '2': none of its layers has a score"):
        Ones(Options()).structure_scores(MODEL, [Target(group, layer_slices(MODEL, group))], None)


def test_every_file_is_a_criterion() -> None:
    assert set(registry.names("criterion")) >= {"magnitude", "oba", "oba-exact", "random", "taylor"}
    for name in registry.names("criterion"):
        criterion = load_criterion(name, Options())
        assert isinstance(criterion, Criterion)
        assert f"``{name}``" in (registry.load("criterion", name).__doc__ or "")


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown criterion 'oba-exat' \(did you mean 'oba-exact'\?\)"):
        load_criterion("oba-exat", Options())
    with pytest.raises(ConfigError, match="order: 0 is out of range; allowed: 1 or more"):
        Options(order=0)
    with pytest.raises(ConfigError, match="magnitude: 'l3' is unknown; allowed: l1, l2"):
        Options(magnitude="l3")
