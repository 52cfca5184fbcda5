from __future__ import annotations

from pathlib import Path

import pytest

from oba.layout import Coordinates
from oba.report.net import Net, seeds_of

DIRECTORY = Path("results/tiny/resnet8/seed3")


def test_nets_are_named_from_coordinates():
    dense = Net.of(Coordinates("resnet8", 3, variant="dense"), DIRECTORY / "dense")
    assert dense.coordinates == ("resnet8", 3, "dense", "", 1.0, "dense")
    at = Coordinates("resnet8", 3, "oba", "oneshot", "0.30", "finetuned")
    net = Net.of(at, DIRECTORY / "oba-oneshot/keep0.30/finetuned")
    assert net.coordinates == ("resnet8", 3, "oba", "oneshot", 0.3, "finetuned")
    assert net.pruned == DIRECTORY / "oba-oneshot/keep0.30/pruned"


@pytest.mark.parametrize(("method", "pruned"), [("dense", False), ("dense-longer", False), ("random", True)])
def test_what_counts_as_pruned(method, pruned):
    assert Net("resnet8", 0, method, "", 1.0, "finetuned", Path()).is_pruned is pruned


def test_seeds_are_counted_per_net():
    nets = [Net("m", seed, "oba", "", keep, "finetuned", Path(str(seed))) for seed in (0, 1, 4) for keep in (0.5, 0.3)]
    assert seeds_of(nets) == "3"
    assert seeds_of(nets[:-1]) == "2 to 3"
    assert seeds_of(nets[:2]) == seeds_of([]) == ""
