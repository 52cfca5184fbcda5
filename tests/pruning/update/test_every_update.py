"""What holds for every registered update, on every net of the zoo."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from oba import registry
from oba.pruning.cut import make_update

UPDATES = registry.names("update")
WEIGHTS = ["bias", "c-obs", "kron-obs", "least-squares", "mask-space"]


def hooks_of(model: nn.Module) -> int:
    return sum(len(v) for module in model.modules() for k, v in vars(module).items() if k.endswith("_hooks"))


@pytest.mark.parametrize("name", UPDATES)
def test_the_net_before_is_left_as_found_and_the_net_after_fits(name, case, make_cut, calibration, images):
    case.model.train()
    next(case.model.children()).eval()
    cut = make_cut(case.model, case.groups)
    found = copy.deepcopy(case.model.state_dict())
    shapes = {key: (p.shape, p.dtype, p.requires_grad) for key, p in cut.after.named_parameters()}
    modes = [module.training for module in case.model.modules()]
    make_update(name).adjust(cut, calibration)
    assert all(torch.equal(tensor, found[key]) for key, tensor in case.model.state_dict().items())
    assert {key: (p.shape, p.dtype, p.requires_grad) for key, p in cut.after.named_parameters()} == shapes
    for net in (cut.before, cut.after):
        assert [module.training for module in net.modules()] == modes
        assert hooks_of(net) == 0
        assert all(p.grad is None for p in net.parameters())
    assert cut.after.eval()(images).isfinite().all()


@pytest.mark.parametrize("name", UPDATES)
def test_where_nothing_went_no_weight_changes(name, zoo, make_cut, calibration):
    case = zoo("residual-streams")
    cut = make_cut(case.model, case.groups, {})
    make_update(name).adjust(cut, calibration)
    for key, parameter in cut.after.named_parameters():
        assert torch.equal(parameter, case.model.get_parameter(key))


@pytest.mark.parametrize("name", UPDATES)
def test_what_an_update_changes(name, zoo, make_cut, calibration):
    """``none`` changes nothing, ``norm`` statistics alone, the others weights as well."""
    case = zoo("batch-norm")
    cut = make_cut(case.model, case.groups)
    found = copy.deepcopy(cut.after.state_dict())
    make_update(name).adjust(cut, calibration)
    changed = {key for key, tensor in cut.after.state_dict().items() if not torch.equal(tensor, found[key])}
    assert any(key in dict(cut.after.named_parameters()) for key in changed) == (name in WEIGHTS)
    assert ("1.running_mean" in changed) == (name != "none")
    assert bool(changed) == (name != "none")


@pytest.mark.parametrize("name", WEIGHTS)
def test_norms_are_recalibrated_at_the_end(name, zoo, make_cut, calibration):
    case = zoo("batch-norm")
    cut = make_cut(case.model, case.groups)
    make_update(name).adjust(cut, calibration)
    again = copy.deepcopy(cut.after)
    make_update("norm").adjust(make_cut(again, [], {}), calibration)
    for key, tensor in cut.after.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])


@pytest.mark.parametrize("name", WEIGHTS)
def test_single_precision_stays(name, zoo, make_cut, calibration):
    case = zoo("residual-streams")
    exact, cut = make_cut(case.model, case.groups), make_cut(copy.deepcopy(case.model).float(), case.groups)
    make_update(name).adjust(exact, calibration)
    make_update(name).adjust(cut, lambda: ((x.float(), y) for x, y in calibration()))
    for key, parameter in cut.after.named_parameters():
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter.double(), exact.after.get_parameter(key), rtol=1e-3, atol=1e-4)
