from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from oba.errors import ModelError
from oba.models import build_model


def test_transformers_get_position_embeddings_for_the_image_size() -> None:
    small, large = (build_model("timm/test_vit", num_classes=3, input_size=(1, n, n)) for n in (32, 64))
    assert [net.get_parameter("pos_embed").shape[1] for net in (small, large)] == [1 + 4, 1 + 16]


def test_other_errors_of_timm_are_not_taken_for_the_image_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: Any, **__: Any) -> nn.Module:
        raise TypeError("some other argument")

    monkeypatch.setattr("timm.create_model", create)
    with pytest.raises(ModelError, match=r"timm/resnet10t: cannot be built .*\(TypeError: some other argument\)"):
        build_model("timm/resnet10t", num_classes=10, input_size=(1, 32, 32))
