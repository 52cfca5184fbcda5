from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import oba.models
from oba.errors import ConfigError, ModelError
from oba.models import build_model
from oba.models.families import resnet

SMALL = ["resnet8", "resnet20x0.5", "vgg11x0.125", "vgg19x0.0625"]
LIBRARY = ["timm/resnet10t", "timm/test_vit", "torchvision/squeezenet1_1", "torchvision/shufflenet_v2_x0_5"]


@pytest.mark.parametrize("input_size", [(1, 8, 8), (3, 32, 32), (3, 20, 28)])
@pytest.mark.parametrize("name", SMALL)
def test_own_nets_classify_images_of_many_sizes(name: str, input_size: tuple[int, int, int]) -> None:
    model = build_model(name, num_classes=7, input_size=input_size)
    assert model.training
    logits = model(torch.randn(3, *input_size))
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", LIBRARY)
def test_nets_of_libraries_fit_classes_and_channels(name: str) -> None:
    model = build_model(name, num_classes=7, input_size=(1, 64, 64))
    assert model.training
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 7)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_weights_come_from_the_global_random_state() -> None:
    def weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_model("resnet8", num_classes=10, input_size=(1, 8, 8)).get_parameter("conv1.weight")

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # torch's own, on the first use of forward mode
@pytest.mark.parametrize("name", ["resnet8", "vgg11x0.125"])
def test_every_activation_is_a_module_used_once_and_forward_mode_agrees_with_reverse(name: str) -> None:
    model = build_model(name, num_classes=4, input_size=(1, 8, 8)).eval().double()
    uses: dict[str, int] = {}
    for path, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, path=path: uses.update({path: uses.get(path, 0) + 1}))
    image, tangent = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(model(forward_ad.make_dual(image, tangent))).tangent
    assert slope is not None
    assert set(uses.values()) == {1}
    gradient = torch.autograd.functional.jacobian(model, image)
    assert isinstance(gradient, torch.Tensor)
    torch.testing.assert_close(slope, torch.einsum("nkbchw,bchw->nk", gradient, tangent))


@pytest.mark.parametrize(
    ("name", "reason"), [("torchvision/squeezenet1_1", "too small"), ("timm/vit_tiny_patch16_224", "Kernel size")]
)
def test_too_small_images_are_told_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(name, num_classes=10, input_size=(1, 8, 8))
    message = str(caught.value)
    assert message.startswith(f"{name}: cannot be built for images of 1x8x8 (")
    assert reason in message
    assert "\n" not in message


def test_a_net_with_other_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "build", lambda *_, **__: nn.Flatten())
    with pytest.raises(ModelError, match=r"resnet8: gives outputs of shape \(1, 64\) for one .* not \(1, 10\)"):
        build_model("resnet8", num_classes=10, input_size=(1, 8, 8))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="model: unknown model 'resnte8'"):
        build_model("resnte8", num_classes=10, input_size=(1, 8, 8))


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_net'"):
        _ = oba.models.build_net  # pyright: ignore[reportAttributeAccessIssue]
