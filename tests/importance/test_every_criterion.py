"""What holds for every registered criterion: the same scores again, and a model that is left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from masked_nets import single
from scoring import CRITERIA, WITH_NORMS, own, raw_scores
from torch import Tensor, nn
from zoo import ZOO

from oba.errors import ScoreError
from oba.importance import parameter_scores, score_structures
from oba.importance.criterion import Criterion, make_criterion
from oba.structures import Slice, StructureGroup

MEMBER = next(member for member in ZOO if member.name == "conv_bn")
GROUPS = [
    StructureGroup("0", (Slice("0", "out", single(3)), Slice("1", "feature", single(3)), Slice("3", "in", single(3)))),
    StructureGroup("3", (Slice("3", "out", single(4)), Slice("4", "feature", single(4)), Slice("8", "in", single(4)))),
]
BATCHES = [MEMBER.batch(size, seed) for seed, size in enumerate((4, 3))]


WITHOUT_LOSS = {"reconstruction"}


def made() -> nn.Module:
    """Return a net of which every part could be lost: modes, gradients, frozen parameters, hooks."""
    model = MEMBER.make()
    for i, (name, parameter) in enumerate(model.named_parameters()):
        parameter.grad = torch.full_like(parameter, float(i)) if i % 2 else None
        parameter.requires_grad_(name != "3.bias")
    model.get_submodule("4").eval()
    model.get_submodule("2").register_forward_hook(lambda *_: None)
    return model


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """Check that nothing of a model, and no global state, is changed by what is done."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    tensors: dict[str, Tensor] = {name: t.detach().clone() for name, t in (parameters | buffers).items()}
    gradients = {name: (p.grad, None if p.grad is None else p.grad.clone()) for name, p in parameters.items()}
    flags = {name: p.requires_grad for name, p in parameters.items()}
    modes = [module.training for module in model.modules()]
    hooks = [_hooks(module) for module in model.modules()]
    attributes = [sorted(vars(module)) for module in model.modules()]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.overrides._get_current_function_mode_stack()
    assert [module.training for module in model.modules()] == modes
    assert [_hooks(module) for module in model.modules()] == hooks
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    found = dict(model.named_parameters()) | dict(model.named_buffers())
    assert found.keys() == tensors.keys()
    for name, tensor in found.items():
        assert tensor is (parameters | buffers)[name]
        assert torch.equal(tensor, tensors[name])
    for name, parameter in parameters.items():
        grad, content = gradients[name]
        assert parameter.grad is grad
        assert grad is None or content is None or torch.equal(content, grad)
        assert parameter.requires_grad == flags[name]


def _hooks(module: nn.Module) -> list[list[int]]:
    return [list(vars(module)[key]) for key in sorted(vars(module)) if key.endswith("_hooks")]


@pytest.mark.parametrize(("criterion", "norm"), WITH_NORMS)
def test_scores_repeat_bit_for_bit(criterion: str, norm: str) -> None:
    model = made()
    torch.manual_seed(1)
    first = score_structures(model, GROUPS, BATCHES, criterion, **own(criterion, norm=norm, samples=2))
    torch.manual_seed(2)
    again = score_structures(model, GROUPS, iter(BATCHES), criterion, **own(criterion, norm=norm, samples=2))
    assert list(first.alone) == list(again.alone) == ["0", "3"]
    assert not (first.in_nats or first.interactions is not None) or not own(criterion, normalizer="", over_batches="")
    for group in GROUPS:
        assert first.alone[group.name].shape == (len(group),)
        assert torch.equal(first.alone[group.name], again.alone[group.name])
    assert (first.interactions is None) is (again.interactions is None)
    if first.interactions is not None and again.interactions is not None:
        assert torch.equal(first.interactions, again.interactions)


@pytest.mark.parametrize(("criterion", "norm"), WITH_NORMS)
def test_the_model_is_left_as_it_was_found(criterion: str, norm: str) -> None:
    model = made()
    with left_alone(model):
        scores = raw_scores(model, GROUPS, BATCHES, criterion, **own(criterion, norm=norm, samples=2))
    assert scores.keys() == {group.name for group in GROUPS}
    for hessian in ("exact", "probes") if criterion == "oba-diag" else ():
        with left_alone(model):
            raw_scores(model, GROUPS, BATCHES, criterion, norm=norm, samples=2, hessian=hessian)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scoring_parameters_leaves_the_model_alone(criterion: str) -> None:
    model = made()
    with left_alone(model):
        if type(make_criterion(criterion)).parameter_scores is Criterion.parameter_scores:
            with pytest.raises(ScoreError, match=f"criterion '{criterion}' scores structures, not parameters"):
                parameter_scores(model, BATCHES, criterion)
        else:
            assert parameter_scores(model, BATCHES, criterion)


class Fragile(nn.Module):
    """Fails on a large input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.detach().abs().max() > 1e3:
            raise RuntimeError("too large")
        return x


@pytest.mark.parametrize(("criterion", "norm"), [case for case in WITH_NORMS if make_criterion(case[0]).needs_data])
@pytest.mark.parametrize("where", ["in the net", "in the loss"])
def test_an_error_leaves_the_model_as_it_was_found(criterion: str, norm: str, where: str) -> None:
    model, fragile = made(), Fragile()
    model.get_submodule("7").register_forward_hook(lambda _module, _inputs, output: fragile(output))
    if where == "in the loss" and criterion in WITHOUT_LOSS:
        pytest.skip("it reads images and no loss")
    inputs, targets = BATCHES[1]
    bad, expected = (inputs, targets + 5), "batch 1: target . is out of range"
    if where == "in the net":
        # Norms of the batch undo any scale, so there the number of channels is wrong.
        bad = (inputs * 1e30 if norm == "eval" else inputs[:, :1], targets)
        expected = "too large" if norm == "eval" else "channels"
    options = own(criterion, norm=norm, samples=2, labels="given")
    with left_alone(model), pytest.raises(ScoreError, match=expected):
        raw_scores(model, GROUPS, [BATCHES[0], bad], criterion, **options)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_group_of_another_model_leaves_the_model_as_it_was_found(criterion: str) -> None:
    model = made()
    other = StructureGroup("other", (Slice("elsewhere", "out", single(2)),))
    with left_alone(model), pytest.raises(ScoreError, match="group 'other': layer 'elsewhere' cannot be scored"):
        raw_scores(model, [*GROUPS, other], BATCHES, criterion)
