"""Costs: against PyTorch's own counter, by hand, and as an exact function of what is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from oba.pruning.cost import Cost, CostModel, measure
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import Slice, StructureGroup

SIZE = (3, 8, 8)


def _counted(model):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *SIZE, dtype=torch.float64))
    return counter.get_total_flops() // 2


def test_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5))
    assert measure(model, SIZE) == Cost(
        macs=9 * (4 * 3 * 9) + 36 * 5,
        parameters=(4 * 27 + 4) + 8 + (180 + 5),
        bytes=4 * (112 + 8 + 185) + 4 * 8 + 8,
    )


def test_bytes_follow_the_dtype():
    model = nn.Linear(3, 2, bias=False)
    assert measure(nn.Sequential(nn.Flatten(), nn.Linear(192, 2).double()), SIZE).bytes == 8 * 386
    assert measure(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), model), SIZE).bytes == 24


def test_like_the_counter_of_pytorch(case):
    assert measure(case.model, SIZE).macs == _counted(case.model)


def test_attention_is_counted(zoo):
    model = zoo("vit").model
    tokens, width, depth = 5, 12, 2
    block = tokens * (width * 36 + width * 12 + 2 * width * 48) + 2 * tokens * tokens * width
    assert measure(model, SIZE).macs == 4 * (48 * width) + depth * block + width * 5


def test_torchvision_attention_is_counted():
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(8, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    tokens = 5
    block = tokens * (8 * 24 + 8 * 8 + 2 * 8 * 12) + 2 * tokens * tokens * 8
    assert measure(model, SIZE).macs == 4 * 48 * 8 + block + 8 * 3


class _Calls(nn.Module):
    """One product of activations, on its own."""

    def __init__(self, product):
        super().__init__()
        self.product, self.unused = product, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.product(x.flatten(1))


@pytest.mark.parametrize(
    ("product", "macs"),
    [
        (lambda x: torch.addbmm(x.new_zeros(2, 4), x.new_ones(3, 2, 1), x.new_ones(3, 1, 4)), 24),
        (lambda x: x.new_zeros(2, 4).addbmm_(x.new_ones(3, 2, 5), x.new_ones(3, 5, 4)), 120),
        (lambda x: torch.baddbmm(x.new_zeros(3, 2, 4), x.new_ones(3, 2, 5), x.new_ones(3, 5, 4)), 120),
        (lambda x: x.new_zeros(3, 2, 4).baddbmm_(x.new_ones(3, 2, 5), x.new_ones(3, 5, 4)), 120),
        (lambda x: torch.addmm(x.new_zeros(2, 4), x.new_ones(2, 5), x.new_ones(5, 4)), 40),
        (lambda x: x.new_zeros(2, 4).addmm_(x.new_ones(2, 5), x.new_ones(5, 4)), 40),
        (lambda x: torch.mv(x.new_ones(7, 192), x[0]), 7 * 192),
        (lambda x: x[0].dot(x[0]), 192),
        (lambda x: torch.vdot(x[0], x[0]), 192),
        (lambda x: torch.inner(x[0], x[0]), 192),
        (lambda x: torch.addmv(x.new_zeros(7), x.new_ones(7, 192), x[0]), 7 * 192),
        (lambda x: x.new_zeros(7).addmv_(x.new_ones(7, 192), x[0]), 7 * 192),
        (lambda x: x @ x.T, 192),
        (lambda x: torch.einsum("bij,bjk->bik", x.view(4, 6, 8), x.view(4, 8, 6)), 4 * 6 * 8 * 6),
        (lambda x: torch.tensordot(x, x.new_ones(192, 3), 1), 3 * 192),
        (lambda x: nn.functional.bilinear(x, x[:, :2], x.new_ones(5, 192, 2)), 5 * 192 * 2),
        (lambda x: nn.functional.conv_transpose2d(x.view(1, 3, 8, 8), x.new_ones(3, 5, 2, 2), stride=2), 64 * 60),
        (lambda x: nn.functional.scaled_dot_product_attention(*3 * [x.view(1, 2, 12, 8)]), 2 * 2 * 12 * 12 * 8),
    ],
)
def test_products_outside_of_layers(product, macs):
    assert measure(_Calls(product), SIZE).macs == macs


def test_multihead_attention_is_counted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = x.reshape(1, 24, 8)
            return self.attention(tokens, tokens, tokens)[0]

    for net in (Net().eval(), Net().train()):
        assert measure(net, SIZE).macs == 24 * (8 * 24 + 8 * 8) + 2 * 24 * 24 * 8


def test_layers_called_twice_cost_twice():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.idle, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(100, 100), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(self.conv(self.conv(x)).mean((2, 3)))

    assert measure(Net(), SIZE).macs == 2 * 64 * 9 + 6


@pytest.mark.parametrize("count", [1, 2])
def test_removal_is_exact(case, count):
    """Incrementally, all groups in turn, and against the net that is really cut."""
    cost = CostModel.of(case.model, SIZE)
    model = copy.deepcopy(case.model)
    removed = {g.name: range(min(count, len(g) - 1)) for g in case.groups}
    for group in case.groups:
        one = copy.deepcopy(case.model)
        apply_plan(one, removal_plan(one, [group], removed))
        alone = CostModel.of(case.model, SIZE)
        assert alone.saving(group, len(removed[group.name])) == alone.macs - measure(one, SIZE).macs
        cost.remove(group, len(removed[group.name]))
    plan = removal_plan(model, case.groups, removed)
    apply_plan(model, plan)
    pruned = CostModel.of(model, SIZE)
    assert cost.macs == pruned.macs == measure(model, SIZE).macs
    assert pruned.dense_macs(plan) == CostModel.of(case.model, SIZE).macs == cost.dense_macs(plan)


@pytest.mark.parametrize("left", [1, 2])
def test_the_dense_cost_is_known_when_one_channel_of_a_depthwise_convolution_is_left(left):
    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), depthwise, nn.Conv2d(4, 3, 1))
    dense = CostModel.of(model, SIZE)
    each = tuple((channel,) for channel in range(4))
    axes = (("0", "out"), ("1", "out"), ("1", "in"), ("2", "in"))
    group = StructureGroup("0", tuple(Slice(layer, axis, each) for layer, axis in axes))
    plan = removal_plan(model, [group], {"0": list(range(4 - left))})
    apply_plan(model, plan)
    assert (depthwise.groups, depthwise.in_channels) == (left, left)
    assert CostModel.of(model, SIZE).dense_macs(plan) == dense.macs
    assert CostModel.of(copy.deepcopy(model), SIZE).dense_macs(plan) == dense.macs


def test_a_copy_goes_its_own_way(zoo):
    case = zoo("batch-norm")
    cost = CostModel.of(case.model, SIZE)
    before, copied = cost.macs, cost.copy()
    copied.remove(case.groups[0], 2)
    assert cost.macs == before
    assert copied.macs == before - cost.saving(case.groups[0], 2) < before


def test_groups_of_layers_that_do_not_run_save_nothing(zoo):
    cost = CostModel.of(zoo("batch-norm").model, SIZE)
    stranger = StructureGroup("x", (Slice("x", "out", ((0,), (1,))),))
    assert cost.saving(stranger, 1) == 0


def test_model_is_left_as_found(zoo):
    model = zoo("vit").model.train()
    before = copy.deepcopy(model.state_dict())
    fast = torch.backends.mha.get_fastpath_enabled()
    measure(model, SIZE)
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Pooled(nn.Module):
    """Attention with a learned query, a view of a parameter that goes into a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query = nn.Conv2d(3, 6, 4, 4), nn.Parameter(torch.randn(1, 1, 6))
        self.q, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).mT
        scores = self.q(self.query.expand(len(x), -1, -1)) @ tokens.mT
        return self.head((scores.softmax(-1) @ tokens).squeeze(1))


def test_learned_queries_are_counted_and_still_learn():
    model = Pooled()
    model.head.bias.requires_grad_(False)
    assert measure(model, SIZE).macs == 4 * 48 * 6 + 36 + 2 * 4 * 6 + 12
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["head.bias"]
