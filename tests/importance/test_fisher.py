from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, network
from masked_nets import BY_NAME, EVAL_IDS, NETS, Loss, MaskedNet, group, squared
from scoring import raw_scores
from torch import Tensor

from oba.errors import ScoreError
from oba.importance import score_structures
from oba.importance.masks import masked
from oba.importance.state import left_as_found
from oba.models import build_model
from oba.pruning.dependencies import find_groups
from oba.structures import Slice, StructureGroup

SIZES = (4, 1, 3)


@pytest.mark.parametrize("net", NETS, ids=EVAL_IDS)
@pytest.mark.parametrize("loss", [F.cross_entropy, squared])
def test_scores_are_mean_squares_over_single_examples(net: MaskedNet, loss: Loss) -> None:
    model, batches = net.member.make(), [net.member.batch(size, seed) for seed, size in enumerate(SIZES)]
    squares = []
    with left_as_found(model, "eval"):
        for inputs, targets in batches:
            for i in range(len(inputs)):
                masks = {g.name: torch.ones(len(g), dtype=torch.float64, requires_grad=True) for g in net.groups}
                with masked(model, net.groups, masks):
                    value = loss(model(inputs[i : i + 1]), targets[i : i + 1])
                squares.append(torch.cat(torch.autograd.grad(value, list(masks.values()))).square())
    expected = torch.stack(squares).mean(0)
    found = raw_scores(model, net.groups, batches, "fisher", loss=loss)
    assert expected.max() > 1e-8
    torch.testing.assert_close(torch.cat(list(found.values())), expected, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_with_statistics_of_the_batch_each_example_has_masks_of_its_own(name: str) -> None:
    net = BY_NAME[name]
    model, (inputs, targets) = net.member.make(), net.member.batch(5)
    with left_as_found(model, "train"):

        def value(masks: Tensor) -> Tensor:
            return len(inputs) * F.cross_entropy(net.by_hand(model, masks, inputs), targets)

        derivatives = torch.func.grad(value)(torch.ones(5, net.structures, dtype=torch.float64))
    found = raw_scores(model, net.groups, [(inputs, targets)], "fisher", norm="train")
    torch.testing.assert_close(torch.cat(list(found.values())), derivatives.square().mean(0), rtol=1e-9, atol=1e-16)


def test_scores_cost_one_pass_each_way() -> None:
    model = network()
    groups = [group(f"{2 * i}", 3, (f"{2 * i}", "out"), (f"{2 * i + 2}", "in")) for i in range(LAYERS - 1)]
    with Units() as units:
        raw_scores(model, groups, [(X, torch.tensor([0, 2]))], "fisher")
    assert units.count == {"forward": LAYERS, "to input": LAYERS - 1, "to weight": 0}


def test_frozen_parameters_change_nothing() -> None:
    net = BY_NAME["residual"]
    model, batch = net.member.make(), net.member.batch()
    expected = raw_scores(model, net.groups, [batch], "fisher")
    found = raw_scores(model.requires_grad_(False), net.groups, [batch], "fisher")
    for name, score in expected.items():
        torch.testing.assert_close(found[name], score, rtol=1e-12, atol=1e-18)


def test_a_group_that_no_layer_takes_is_refused() -> None:
    net = BY_NAME["mlp"]
    loose = StructureGroup("2", (Slice("2", "out", ((0,), (1,), (2,), (3,))),))
    with pytest.raises(ScoreError, match="group '2': no layer takes its structures as input to be masked"):
        raw_scores(net.member.make(), [loose], [net.member.batch()], "fisher")


@pytest.mark.slow
def test_windows_of_a_swin_transformer_belong_to_their_images() -> None:
    size = (3, 64, 64)
    torch.manual_seed(0)
    model = build_model("timm/swin_tiny_patch4_window7_224", num_classes=10, input_size=size).double()
    groups = find_groups(model, size, residual_streams=True, head_dims=True)
    images, targets = torch.randn(2, *size).double(), torch.tensor([1, 3])

    def scores(some: slice) -> dict[str, Tensor]:
        batch = [(images[some], targets[some])]
        return score_structures(model, groups, batch, "fisher", normalizer="none").alone

    first, second = scores(slice(1)), scores(slice(1, 2))
    for name, found in scores(slice(2)).items():
        torch.testing.assert_close(found, (first[name] + second[name]) / 2, rtol=1e-9, atol=1e-20)
