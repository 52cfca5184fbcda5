"""Attention that is cut: over several rounds, by every criterion and update, with costs that are exact."""

from __future__ import annotations

import copy

import pytest
import torch
from attended import normed, rotary, vit, windowed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from oba import load_pruned, registry
from oba.config import Floors
from oba.errors import ScoreError
from oba.importance import score_structures
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.cost import CostModel, measure
from oba.pruning.cut import Cut, make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan, restrict
from oba.pruning.problem import make_allocation
from oba.pruning.replay import apply_plan, removal_plan

SIZE = (3, 8, 8)


def batches():
    generator = torch.Generator().manual_seed(3)
    yield torch.randn(6, *SIZE, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0])


def made(build=vit):
    torch.manual_seed(1)
    model = build().eval()
    torch.nn.init.normal_(model.head.weight, std=0.5)
    return model


def test_sizes_after_surgery():
    model = made()
    groups = find_groups(model, SIZE, head_dims=True)
    removed = {"blocks.0.attn.heads": [0], "blocks.0.attn.query-key": [1, 3], "blocks.0.attn.value": [5]}
    apply_plan(model, removal_plan(model, groups, removed))
    attention = model.blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.value_dim) == (1, 4, 5)
    assert attention.qkv.out_features == 4 + 4 + 5
    assert attention.proj.in_features == 5
    assert attention.scale == 6**-0.5
    assert model.blocks[1].attn.num_heads == 2


def test_the_position_bias_of_a_head_goes_with_it():
    model = made(windowed)
    table = model.attention.relative_position_bias_table.detach().clone()
    groups = find_groups(model, SIZE)
    apply_plan(model, removal_plan(model, groups, {"attention.heads": [1]}))
    assert torch.equal(model.attention.relative_position_bias_table, table[:, [0, 2]])


def test_costs_are_exact_in_any_order():
    """Heads and dimensions share rows, which are saved once."""
    model = made()
    groups = {g.name: g for g in find_groups(model, SIZE, head_dims=True)}
    cost = CostModel.of(model, SIZE)
    steps = [("value", 2), ("heads", 1), ("query-key", 3), ("value", 1), ("value", -1), ("query-key", 1)]
    gone = {"heads": 0, "query-key": 0, "value": 0}
    for kind, count in steps:
        group = groups[f"blocks.1.attn.{kind}"]
        before, saving = cost.macs, cost.saving(group, count)
        cost.remove(group, count)
        gone[kind] += count
        pruned = copy.deepcopy(model)
        removed = {f"blocks.1.attn.{name}": range(number) for name, number in gone.items()}
        plan = removal_plan(model, list(groups.values()), removed)
        apply_plan(pruned, plan)
        assert cost.macs == before - saving == measure(pruned, SIZE).macs
        assert CostModel.of(pruned, SIZE).dense_macs(plan) == measure(model, SIZE).macs
    assert cost.settled().macs == cost.macs


def test_rounds_compose():
    """Structures that crossed are found again in the pruned net, and go from it as they would from the dense one."""
    model = made()
    groups = find_groups(model, SIZE, head_dims=True)
    first = {"blocks.0.attn.heads": [1], "blocks.0.attn.value": [0, 2], "blocks.1.attn.query-key": [4]}
    then = {"blocks.0.attn.query-key": [5], "blocks.0.attn.value": [1], "blocks.1.attn.heads": [0]}
    pruned = copy.deepcopy(model)
    plan = removal_plan(pruned, groups, first)
    apply_plan(pruned, plan)
    current, origin = restrict(groups, plan)
    assert origin["blocks.0.attn.value"] == (1, 3, 4, 5)
    cost, step = CostModel.of(pruned, SIZE), {n: [origin[n].index(i) for i in gone] for n, gone in then.items()}
    for group in current:
        cost.remove(group, len(step.get(group.name, ())))
    second = removal_plan(pruned, current, step)
    apply_plan(pruned, second)
    at_once = copy.deepcopy(model)
    both = {name: [*first.get(name, ()), *then.get(name, ())] for name in first | then}
    apply_plan(at_once, removal_plan(model, groups, both))
    assert plan.then(second) == removal_plan(model, groups, both)
    assert cost.macs == measure(pruned, SIZE).macs
    for inputs, _ in batches():
        assert torch.equal(pruned(inputs), at_once(inputs))


@pytest.mark.parametrize("allocation", ["global", "per-mac", "uniform", "error-curves"])
def test_every_allocation_meets_its_level(allocation, tmp_path):
    model = made()
    groups = find_groups(model, SIZE, head_dims=True, residual_streams=True)
    dense = measure(model, SIZE).macs
    pruned = copy.deepcopy(model)
    plan, rounds = prune_to_level(
        pruned,
        groups,
        Plan(),
        score=lambda net, current: score_structures(net, current, batches(), "taylor"),
        steps=Steps(make_allocation(allocation), make_update("none"), 3, Floors(max_removed=0.9)),
        images=batches,
        keep=0.4,
        input_size=SIZE,
    )
    macs = measure(pruned, SIZE).macs
    assert macs <= 0.4 * dense
    assert rounds[-1].macs_kept == pytest.approx(macs / dense)
    assert {axis for _, axis in plan.axes} & {"head", "query-key", "value"}
    save_pruned(tmp_path, pruned, ModelCard("Vit", 5, SIZE, (), (), ()), plan)
    for inputs, _ in batches():
        assert torch.equal(load_pruned(tmp_path, vit())(inputs), pruned(inputs))


@pytest.mark.parametrize("criterion", registry.names("criterion"))
def test_every_criterion_scores_heads(criterion):
    model = made()
    groups = find_groups(model, SIZE)
    if criterion == "bn-scale":
        with pytest.raises(ScoreError):
            score_structures(model, groups, batches(), criterion)
        return
    scores = score_structures(model, groups, batches(), criterion).alone["blocks.0.attn.heads"]
    assert scores.shape == (2,)
    assert scores[0] != scores[1]


@pytest.mark.parametrize("criterion", registry.names("criterion"))
def test_every_criterion_scores_dimensions_or_says_why_not(criterion):
    model = made()
    groups = [g for g in find_groups(model, SIZE, heads=False, head_dims=True) if g.name.endswith("query-key")]
    if criterion in {"bn-scale", "reconstruction"}:
        with pytest.raises(ScoreError, match=r"blocks.0.attn.query-key"):
            score_structures(model, groups, batches(), criterion)
        return
    assert len(score_structures(model, groups, batches(), criterion).alone["blocks.0.attn.query-key"].unique()) == 6


def test_a_score_of_a_head_adds_up_its_rows_and_columns():
    model = made()
    groups = [g for g in find_groups(model, SIZE) if g.name == "blocks.1.attn.heads"]
    found = score_structures(model, groups, batches(), "taylor", normalizer="none", over_layers="sum")
    for inputs, targets in batches():
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    attention = model.blocks[1].attn
    rows = (attention.qkv.weight * attention.qkv.weight.grad).sum(1) + attention.qkv.bias * attention.qkv.bias.grad
    columns = (attention.proj.weight * attention.proj.weight.grad).sum(0)
    expected = rows.view(3, 2, 6).sum((0, 2)).abs() + columns.view(2, 6).sum(1).abs()
    assert_close(found.alone["blocks.1.attn.heads"].float(), expected, rtol=1e-4, atol=1e-7)


def test_mask_derivatives_of_heads_and_dimensions():
    """``oba-diag`` is the second-order change of the loss, by finite differences of masks."""
    from oba.importance.masks import masked

    model = made().double()
    groups = [g for g in find_groups(model, SIZE, head_dims=True) if g.name.startswith("blocks.0.attn")]
    images = [(inputs.double(), targets) for inputs, targets in batches()]
    scores = score_structures(model, groups, images, "oba-diag", hessian="exact").alone
    (inputs, targets), step = images[0], 1e-3

    def loss(name, value, index):
        masks = {g.name: torch.ones(len(g), dtype=torch.float64) for g in groups}
        masks[name][index] += value
        with masked(model, groups, masks), torch.no_grad():
            return torch.nn.functional.cross_entropy(model(inputs), targets)

    for group in groups:
        for i in range(len(group)):
            ahead, here, behind = (loss(group.name, s, i) for s in (step, 0.0, -step))
            slope, bend = (ahead - behind) / (2 * step), (ahead - 2 * here + behind) / step**2
            assert_close(scores[group.name][i], bend / 2 - slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("update", registry.names("update"))
def test_every_update_adjusts_heads(update):
    before = made()
    groups = find_groups(before, SIZE, head_dims=True)
    removed = {g.name: range(len(g) // 2) for g in groups if g.name.startswith("blocks")}
    after, plan = copy.deepcopy(before), removal_plan(before, groups, removed)
    apply_plan(after, plan)
    make_update(update).adjust(Cut(before, after, groups, removed, plan), batches)
    for inputs, _ in batches():
        assert after(inputs).isfinite().all()


@pytest.mark.parametrize("build", [vit, normed])
def test_scaling_queries_is_masking_them(build):
    from oba.importance.masks import masked

    model = made(build)
    groups = [g for g in find_groups(model, SIZE, head_dims=True) if g.name.endswith("query-key")]
    factor = torch.linspace(0.5, 1.5, len(groups[0]))
    scaled = copy.deepcopy(model)
    for group in groups:
        scaled.get_submodule(group.slices[0].layer).scale_queries(factor)
    for inputs, _ in batches():
        with masked(model, groups, {g.name: factor for g in groups}):
            assert_close(scaled(inputs), model(inputs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build", [vit, rotary, windowed])
def test_kernels_agree_after_surgery(build):
    model = made(build)
    groups = find_groups(model, SIZE, head_dims=True)
    apply_plan(model, removal_plan(model, groups, {g.name: [0] for g in groups}))
    for inputs, _ in batches():
        with sdpa_kernel(SDPBackend.MATH):
            expected = model(inputs)
        assert_close(model(inputs), expected)
        model.train()(inputs).sum().backward()


def test_pruned_attention_is_exported():
    model = made()
    groups = find_groups(model, SIZE, head_dims=True)
    apply_plan(model, removal_plan(model, groups, {g.name: [0] for g in groups}))
    for inputs, _ in batches():
        assert_close(torch.export.export(model, (inputs,)).module()(inputs), model(inputs))
