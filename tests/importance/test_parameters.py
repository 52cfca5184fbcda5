from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from scoring import own
from torch import Tensor, nn
from zoo import CASES, IDS, Member

from oba.errors import ConfigError, ScoreError
from oba.importance import parameter_scores

CRITERIA = ["oba", "oba-exact", "taylor", "magnitude", "random"]
WITH_DATA = CRITERIA[:3]


def member(name: str) -> Member:
    return next(member for member, _ in CASES if member.name == name)


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that scoring might change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "state": copy.deepcopy(model.state_dict()),
        "identities": [id(t) for t in (*model.parameters(), *model.buffers())],
        "modes": [m.training for m in model.modules()],
        "hooks": [list(getattr(m, name)) for m in model.modules() for name in hooks],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "gradients": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "required": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_same(first: object, second: object) -> None:
    if isinstance(first, Tensor):
        assert isinstance(second, Tensor)
        assert torch.equal(first, second)
    elif isinstance(first, (dict, list, tuple)):
        assert isinstance(second, type(first))
        assert len(first) == len(second)
        for key in first if isinstance(first, dict) else range(len(first)):
            assert_same(first[key], second[key])
    else:
        assert first == second


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("zoo_member", "norm"), CASES, ids=IDS)
def test_the_model_is_left_as_it_was_found(zoo_member: Member, norm: str, criterion: str) -> None:
    model = zoo_member.make()
    list(model.modules())[-1].eval()
    model.register_forward_hook(lambda *_: None)
    first = next(p for p in model.parameters() if p.requires_grad)
    first.grad = torch.ones_like(first)
    inputs, targets = zoo_member.batch()
    before, kept = snapshot(model), inputs.clone()
    parameter_scores(model, [(inputs, targets)], criterion, **own(criterion, norm=norm))
    assert_same(snapshot(model), before)
    assert torch.equal(inputs, kept)
    if criterion in WITH_DATA:
        with pytest.raises(ScoreError, match="batch 1: target 9 is out of range"):
            parameter_scores(model, [(inputs, targets), (inputs, targets + 9 - targets)], criterion, norm=norm)
        with pytest.raises(ScoreError, match="the forward pass"):
            parameter_scores(model, [(inputs.float(), targets)], criterion, norm=norm)
        assert_same(snapshot(model), before)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_batches_count_by_their_examples(criterion: str) -> None:
    model = member("residual").make()
    inputs, targets = member("residual").batch(7)
    parts = [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])]
    whole = parameter_scores(model, [(inputs, targets)], criterion)
    divided = parameter_scores(model, iter(parts), criterion)
    for key, expected in whole.items():
        torch.testing.assert_close(divided[key], expected, rtol=1e-9, atol=1e-12 * expected.abs().max().item())
    # With statistics of the batch, examples depend on each other and the division counts.
    whole = parameter_scores(model, [(inputs, targets)], criterion, norm="train")
    divided = parameter_scores(model, parts, criterion, norm="train")
    assert (divided["stem.weight"] - whole["stem.weight"]).abs().max() > 1e-4
    means = [parameter_scores(model, [part], criterion, norm="train")["stem.weight"] for part in parts]
    torch.testing.assert_close(divided["stem.weight"], (4 * means[0] + 3 * means[1]) / 7, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_do_not_depend_on_the_callers_modes(criterion: str) -> None:
    zoo_member = member("vit_fused")
    model, batch = zoo_member.make(), zoo_member.batch()
    expected = parameter_scores(model, [batch], criterion)
    with torch.no_grad():
        found = parameter_scores(model.eval(), [batch], criterion)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert all(not value.requires_grad for value in expected.values())


def test_dropout_is_off_and_norms_alone_train() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Linear(4, 3)).double().train()
    plain = nn.Sequential(model[0], model[1], nn.Identity(), model[3])
    batch = (torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1]))
    for norm in ("eval", "train"):
        found, expected = (parameter_scores(m, [batch], "taylor", norm=norm) for m in (model, plain))
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_data_is_not_touched_without_need() -> None:
    def never() -> Iterator[tuple[Tensor, Tensor]]:
        raise AssertionError("data was read")
        yield

    assert parameter_scores(member("mlp").make(), never(), "magnitude")


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_what_cannot_be_scored_is_refused(criterion: str) -> None:
    model, (inputs, targets) = member("mlp").make(), member("mlp").batch()
    with pytest.raises(ScoreError, match="the iterable of batches is empty"):
        parameter_scores(model, [], criterion)
    with pytest.raises(ScoreError, match="batch 0: the loss is nan"):
        parameter_scores(model, [(inputs * float("nan"), targets)], criterion)
    with pytest.raises(ScoreError, match="batch 0: the loss is inf"):
        parameter_scores(model, [(inputs, targets)], criterion, loss=lambda y, t: F.cross_entropy(y, t) / 0)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_one_example_has_no_statistics(criterion: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    batch = (torch.ones(1, 4), torch.tensor([0]))
    assert parameter_scores(model, [batch], criterion)
    with pytest.raises(ScoreError, match=r"module '1' \(BatchNorm1d\): Expected more than 1 value per channel"):
        parameter_scores(model, [batch], criterion, norm="train")


def test_scores_that_are_not_finite_are_refused() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 1e30)
    with pytest.raises(ScoreError, match="criterion 'magnitude': the scores of 'weight' are not finite"):
        parameter_scores(model, [], "magnitude", magnitude="l2")


def test_a_model_without_anything_to_score_is_refused() -> None:
    with pytest.raises(ScoreError, match="criterion 'magnitude': the model has no parameter that it scores"):
        parameter_scores(nn.ReLU(), [], "magnitude")
    with pytest.raises(ScoreError, match="criterion 'oba': the model has no parameter that it scores"):
        parameter_scores(nn.LayerNorm(2), [(torch.ones(1, 2), torch.tensor([0]))], "oba")


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown criterion 'obs'"):
        parameter_scores(nn.ReLU(), [], "obs")
    with pytest.raises(ConfigError, match="criterion 'taylor': norm: got 'frozen'; allowed: 'eval' or 'train'"):
        parameter_scores(nn.ReLU(), [], "taylor", norm="frozen")
    with pytest.raises(ConfigError, match="order: got 0; allowed: greater than or equal to 1"):
        parameter_scores(nn.ReLU(), [], "oba-exact", order=0)
