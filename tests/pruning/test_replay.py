"""Plans are applied or refused as a whole; stored nets come back bit for bit, damaged ones do not."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import oba.models
from oba.errors import FileError, ModelError
from oba.files import digest_json
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.dependencies import find_groups
from oba.pruning.plan import Kept, Plan
from oba.pruning.replay import apply_plan, load_pruned, read_plan, removal_plan

CARD = ModelCard("resnet8", 4, (3, 16, 16), ("a", "b", "c", "d"), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def stored(tmp_path):
    """A pruned ResNet8 on disk: directory, net, plan."""
    torch.manual_seed(0)
    model = oba.models.build_model(CARD.name, num_classes=4, input_size=CARD.input_size)
    groups = find_groups(model, CARD.input_size, residual_streams=True)
    plan = removal_plan(model, groups, {g.name: range(0, len(g), 3) for g in groups})
    apply_plan(model, plan)
    model(torch.randn(8, 3, 16, 16))
    save_pruned(tmp_path / "net", model, CARD, plan)
    return tmp_path / "net", model, plan


def test_removal_plan_names_only_what_is_touched(zoo):
    case = zoo("batch-norm")
    plan = removal_plan(case.model, case.groups, {"0": [5, 1]})
    assert plan == Plan({
        ("0", "out"): Kept(6, (0, 2, 3, 4)),
        ("1", "feature"): Kept(6, (0, 2, 3, 4)),
        ("4", "in"): Kept(6, (0, 2, 3, 4)),
    })
    assert removal_plan(case.model, case.groups, {"0": []}) == removal_plan(case.model, case.groups, {}) == Plan()


def test_in_steps_or_at_once(case, images):
    """Plans compose: pruning the pruned net is pruning the dense net by the composed plan."""
    from oba.pruning.plan import restrict

    stepwise, at_once = copy.deepcopy(case.model), copy.deepcopy(case.model)
    plan = Plan()
    for _ in range(2):
        current, _origin = restrict(case.groups, plan)
        step = removal_plan(stepwise, current, {g.name: [len(g) // 2] for g in current if len(g) > 1})
        apply_plan(stepwise, step)
        plan = plan.then(step)
    apply_plan(at_once, plan)
    assert torch.equal(stepwise(images), at_once(images))
    assert all(torch.equal(a, b) for a, b in zip(stepwise.parameters(), at_once.parameters(), strict=True))


def test_pruned_nets_train(case, images):
    apply_plan(case.model, removal_plan(case.model, case.groups, {g.name: [0] for g in case.groups}))
    case.model.train()
    case.model(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in case.model.parameters())


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({("99", "out"): Kept(4, (0,))}, "has no layer '99'"),
        ({("1", "out"): Kept(12, (0,))}, r"'1' \(BatchNorm2d\) has no axis 'out'"),
        ({("0", "out"): Kept(13, (0,))}, "'0' has 12 positions on axis 'out', the plan expects 13"),
        ({("3", "in"): Kept(12, (0, 1, 2))}, "'3' is grouped: only whole groups"),
        ({("3", "in"): Kept(12, (0, 1, 2)), ("3", "out"): Kept(8, (2, 3))}, "'3' is grouped: only whole groups"),
        ({("3", "in"): Kept(12, (0, 1, 3)), ("3", "out"): Kept(8, (0, 1))}, "'3' is grouped: only whole groups"),
    ],
)
def test_plans_that_do_not_fit_change_nothing(zoo, axes, message):
    model = zoo("grouped").model
    before = [p.shape for p in model.parameters()]
    with pytest.raises(ModelError, match=message):
        apply_plan(model, Plan({("6", "in"): Kept(8, (0, 1)), **axes}))
    assert [p.shape for p in model.parameters()] == before


def test_a_plan_is_applied_once(zoo):
    case = zoo("batch-norm")
    plan = removal_plan(case.model, case.groups, {"0": [1]})
    apply_plan(case.model, plan)
    with pytest.raises(ModelError, match=r"the plan expects 6; it is of another model, or already applied"):
        apply_plan(case.model, plan)


def test_round_trip(stored):
    directory, model, plan = stored
    state = torch.random.get_rng_state()
    loaded = load_pruned(directory)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert read_plan(directory) == (CARD, plan)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded.eval()(images), model.eval()(images))
    assert [type(m) for m in loaded.modules()] == [type(m) for m in model.modules()]


def test_the_public_name(stored):
    import oba

    assert sum(p.numel() for p in oba.load_pruned(stored[0]).parameters()) == sum(
        p.numel() for p in stored[1].parameters()
    )


def test_identity_round_trip(tmp_path):
    model = oba.models.build_model("resnet8", num_classes=4, input_size=CARD.input_size)
    save_pruned(tmp_path, model, CARD)
    assert read_plan(tmp_path)[1] == Plan()
    assert torch.equal(next(load_pruned(tmp_path).parameters()), next(model.parameters()))


def _edit(path, change, *, sign=True):
    data = json.loads(path.read_text())
    change(data)
    if sign:
        data["digest"] = digest_json({key: value for key, value in data.items() if key != "digest"})
    path.write_text(json.dumps(data))


def test_truncated_weights(stored):
    path = stored[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"model.safetensors: not a readable safetensors file"):
        load_pruned(stored[0])


def test_weights_of_another_run(stored):
    """A kill between the two files leaves new weights beside an old plan."""
    path = stored[0] / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FileError, match=r"not the weights that plan.json beside it was written for"):
        load_pruned(stored[0])


@pytest.mark.parametrize("name", ["model.safetensors", "plan.json"])
def test_missing_files(stored, name):
    (stored[0] / name).unlink()
    with pytest.raises(FileError, match=f"{name}: no such file"):
        load_pruned(stored[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("plan"), r"plan.json: not a plan \("),
        (lambda d: d.pop("card"), r"plan.json: not a model card \("),
        (lambda d: d["card"].pop("mean"), r"not a model card \(KeyError: 'mean'\)"),
        (lambda d: d["card"].update(input_size=[3, 16]), r"not a model card \(ValueError"),
        (lambda d: d["card"].update(num_classes=float("inf")), r"not a model card \(OverflowError"),
        (lambda d: d["plan"]["axes"][0].update(size=float("inf")), r"not a plan \(OverflowError"),
        (lambda d: d["plan"]["axes"][0].update(kept=[1, 0]), "increasing"),
        (lambda d: d["plan"]["axes"].pop(), "does not fit model 'resnet8'"),
        (lambda d: d["card"].update(name="resnet20"), "does not fit model 'resnet20'"),
        (lambda d: d["card"].update(name="vgg11"), "does not fit model 'vgg11'"),
        (lambda d: d["card"].update(name="resent8"), "does not fit model 'resent8'"),
    ],
)
def test_damaged_plans(stored, change, message):
    _edit(stored[0] / "plan.json", change)
    with pytest.raises(FileError, match=message) as info:
        load_pruned(stored[0])
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["card"].update(mean=[0.4, 0.5, 0.5]),
        lambda d: d["card"]["classes"].reverse(),
        lambda d: d.pop("digest"),
        lambda d: d.update(more=1),
    ],
)
def test_what_a_plan_file_says_is_what_was_written(stored, change):
    """Nothing else would tell that images are normalised otherwise, or that classes changed places."""
    _edit(stored[0] / "plan.json", change, sign=False)
    message = r"plan.json: not as it was written \(its digest differs\); run its stage again$"
    with pytest.raises(FileError, match=message):
        load_pruned(stored[0])


def test_a_plan_file_that_is_a_list(stored):
    (stored[0] / "plan.json").write_text("[]")
    with pytest.raises(FileError, match=r"plan.json: not a plan file"):
        load_pruned(stored[0])


def test_torch_pruning_is_not_needed(stored):
    code = "import sys, oba; oba.load_pruned(sys.argv[1]); print('torch_pruning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, stored[0]], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_channels_last_and_frozen_nets(images):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3), nn.Flatten(), nn.Linear(32, 2)).double()
    model = model.to(memory_format=torch.channels_last)
    groups = find_groups(model, (3, 8, 8))
    apply_plan(model.requires_grad_(False), removal_plan(model, groups, {"0": [0]}))
    assert model(images).shape == (3, 2)
    assert not any(p.requires_grad for p in model.parameters())
