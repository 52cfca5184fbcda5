from __future__ import annotations

from oba.models.families.torchvision import _settings


def test_some_nets_of_torchvision_need_arguments_of_their_own() -> None:
    assert _settings("vit_b_16", (3, 32, 32), None) == {"image_size": 32}
    assert _settings("maxvit_t", (3, 64, 96), None) == {"input_size": (64, 96)}
    assert _settings("googlenet", (3, 64, 64), None) == {"aux_logits": False, "init_weights": True}
    assert _settings("googlenet", (3, 64, 64), "IMAGENET1K_V1") == {"transform_input": False}
    assert _settings("resnet18", (3, 32, 32), None) == {}
