from __future__ import annotations

import warnings

import torch
import torch.autograd.forward_ad as forward_ad

from oba.curvature.dual_mode import dual_level


def test_a_level_is_left_without_tangents_or_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dual_level():
            dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
            assert forward_ad.unpack_dual(dual).tangent is not None
    with dual_level():
        assert forward_ad.unpack_dual(dual).tangent is None
