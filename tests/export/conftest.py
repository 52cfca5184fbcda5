"""Stored nets to export: pruned ones, with single-weight masks, of one's own, and with a pipeline's history."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from oba.models import build_model
from oba.models.stored import save_pruned
from oba.models.weight_masks import apply_masks
from oba.pruning.dependencies import find_groups
from oba.pruning.replay import apply_plan, removal_plan
from oba.pruning.weights.prunable import prunable_weights

sys.path.insert(0, str(Path(__file__).parent))

from stored_nets import Own, card_of


@pytest.fixture
def own() -> nn.Module:
    torch.manual_seed(1)
    return Own().eval()


@pytest.fixture
def store(tmp_path) -> Callable[..., Path]:
    """Return what builds a net, prunes a third of every group and stores it."""

    def stored(
        name: str = "resnet8", size: tuple[int, int, int] = (3, 16, 16), *, masked: bool = False, **options: Any
    ) -> Path:
        torch.manual_seed(0)
        card = card_of(name, size)
        model = build_model(name, num_classes=card.num_classes, input_size=size)
        plan, masks = None, None
        if masked:
            weights = prunable_weights(model)
            masks = {key: torch.rand_like(weight) < 0.3 for key, weight in weights.items()}
            apply_masks(model, masks)
        else:
            groups = find_groups(model, size, **options)
            plan = removal_plan(model, groups, {g.name: range(0, len(g) - 1, 3) for g in groups})
            apply_plan(model, plan)
        model(torch.randn(8, *size))  # norms meet something else than zeros and ones
        folder = tmp_path / "net"
        save_pruned(folder, model, card, plan, masks)
        return folder

    return stored
