from __future__ import annotations

import torch

from oba.curvature.channel_sums import Sums


def test_sums_are_added_up() -> None:
    sums = Sums({("w", "out")})
    assert sums.wants("w", "out")
    assert not sums.wants("w", "in")
    assert not Sums().wants("w", "out")
    sums.add("w", "out", torch.ones(2))
    sums.add("w", "out", torch.ones(2))
    assert sums.sums["w", "out"].tolist() == [2, 2]
    assert sums.sums["w", "out"].dtype == torch.float64
