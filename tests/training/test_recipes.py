"""Every ingredient of a training recipe: what it computes, and that it goes on with the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from resuming import Breaking, Interrupted, figures, same, save_after_every_step, stop_after
from torch import Tensor, nn

from oba.machine import RuntimeConfig
from oba.models import build_model
from oba.models.dropping import set_dropping
from oba.recipes import DistillationConfig, EmaConfig, FinetuneConfig, TrainConfig
from oba.training.device import seeded
from oba.training.ingredients.mixing import Mixer
from oba.training.learner import Learner, distilled
from oba.training.records import TrainOutcome
from oba.training.state import TrainState

Run = Callable[..., tuple[nn.Module, TrainOutcome]]
CPU = torch.device("cpu")
BASE: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.05}
RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.05, "decay": "matrices"},
    "mixing": {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "mix_probability": 0.8},
    "average": {"ema": EmaConfig(decay=0.9)},
    "rising average, best": {"ema": EmaConfig(decay=0.99, warmup=True), "select": "best"},
    "parts and clipping": {"accumulate": 3, "clip_norm": 0.5},
    "rates": {"warmup_epochs": 1, "warmup_lr": 0.001, "min_lr": 0.0001},
    "everything": {
        "optimizer": "adamw", "lr": 0.01, "mixup": 0.2, "ema": EmaConfig(decay=0.9), "accumulate": 2, "clip_norm": 1.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_training_goes_on_and_ends_with_the_same_bits(
    run: Run, toy: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, precision: Any
) -> None:
    config, runtime = TrainConfig(**(BASE | RECIPES[recipe])), RuntimeConfig(precision=precision)
    whole, expected = run(config, runtime=runtime, state_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(config, runtime=runtime, on_epoch=stop_after(1))
    save_after_every_step(monkeypatch)
    for steps in (2, 5):  # of 4 in each of three epochs
        with pytest.raises(Interrupted):
            run(config, runtime=runtime, bundle=toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), steps)))
    resumed, outcome = run(config, runtime=runtime)
    assert same(whole, resumed)
    assert figures(outcome.history) == figures(expected.history)
    assert outcome.selected_epoch == expected.selected_epoch


def test_stochastic_depth_and_dropout_go_on_with_the_same_bits(
    run: Run, toy: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {"num_classes": 4, "input_size": (1, 8, 8)}

    def net() -> nn.Module:
        with seeded(0):
            model = build_model("timm/test_resnet", **sizes)
        set_dropping(model, "timm/test_resnet", **sizes, rates={"dropout": 0.3, "stochastic_depth": 0.4})
        return model

    config = TrainConfig(**(BASE | {"epochs": 2}))
    whole, _ = run(config, model=net(), state_dir=tmp_path / "whole")
    save_after_every_step(monkeypatch)
    with pytest.raises(Interrupted):
        run(config, model=net(), bundle=toy.ToyBundle(Breaking(toy.ToySplit(65, seed=1), 6)))
    resumed, _ = run(config, model=net())
    assert same(whole, resumed)
    plain = build_model("timm/test_resnet", **sizes)
    plain.load_state_dict(whole.state_dict())  # what is dropped has no place in the weights


def test_every_ingredient_changes_the_result(run: Run, tmp_path: Path) -> None:
    plain, _ = run(TrainConfig(**BASE), state_dir=tmp_path / "plain")
    for name, recipe in RECIPES.items():
        other, _ = run(TrainConfig(**(BASE | recipe)), state_dir=tmp_path / name)
        assert not same(plain, other), name


def learner(model: nn.Module, config: TrainConfig, runtime: RuntimeConfig | None = None, **given: Any) -> Learner:
    return Learner(model, config, runtime or RuntimeConfig(), device=CPU, classes=4, **given)


def batch(images: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(images, 1, 8, 8, generator=generator), torch.randint(4, (images,), generator=generator)


def linear() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def one_step(config: TrainConfig, images: int = 12, **given: Any) -> tuple[nn.Module, Tensor, Tensor]:
    model = linear().double()
    inputs, targets = batch(images)
    loss, correct = learner(model, config, **given).step(
        inputs.double(), targets, whole=images, epochs_done=0.5, number=1, seed=3
    )
    return model, loss, correct


@pytest.mark.parametrize("images", [12, 11, 3, 2])
def test_parts_add_up_to_the_whole_batch(images: int) -> None:
    whole, loss, correct = one_step(TrainConfig(epochs=1, batch_size=12), images)
    parts, *rest = one_step(TrainConfig(epochs=1, batch_size=12, accumulate=5), images)
    torch.testing.assert_close(list(parts.parameters()), list(whole.parameters()), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(rest[0], loss, rtol=1e-6, atol=1e-7)
    assert rest[1] == correct


def test_no_part_is_a_single_image() -> None:
    sizes: list[int] = []
    model = linear()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    for images in (2, 3, 7, 9, 16):
        sizes.clear()
        learner(model, TrainConfig(epochs=1, batch_size=16, accumulate=8)).step(
            *batch(images), whole=images, epochs_done=0.5, number=1, seed=3
        )
        assert sum(sizes) == images
        assert min(sizes) > 1


def test_a_long_gradient_is_scaled_down_to_the_given_norm() -> None:
    config: dict[str, Any] = {"epochs": 1, "batch_size": 12, "momentum": 0.0, "weight_decay": 0.0, "schedule": "step"}
    start = torch.cat([p.detach().flatten() for p in linear().double().parameters()])

    def moved(**changes: Any) -> Tensor:
        model, *_ = one_step(TrainConfig(**(config | changes)))
        return torch.cat([p.detach().flatten() for p in model.parameters()]) - start

    free, clipped = moved(), moved(clip_norm=0.01)
    assert clipped.norm() == pytest.approx(0.1 * 0.01, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())
    assert torch.equal(moved(clip_norm=1e6), free)


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_is_what_counts(toy: SimpleNamespace, warmup: bool) -> None:
    config = TrainConfig(epochs=1, batch_size=12, ema=EmaConfig(decay=0.7, warmup=warmup))
    model = toy.toy_net()
    learning = learner(model, config)
    average = {name: t.clone() for name, t in model.state_dict().items()}
    for number in range(1, 5):
        learning.step(*batch(), whole=12, epochs_done=0.5, number=number, seed=number)
        decay = 0.0 if number <= 1 else min(0.7, 1 - (1 + number - 1) ** (-2 / 3)) if warmup else 0.7
        for name, tensor in model.state_dict().items():
            average[name] = average[name] * decay + tensor * (1 - decay) if tensor.is_floating_point() else tensor
    counted = learning.counted.state_dict()
    assert counted.keys() == average.keys()
    for name, tensor in average.items():
        torch.testing.assert_close(counted[name], tensor, rtol=1e-5, atol=1e-6)
    assert not same(learning.counted, model)


def test_a_training_ends_with_its_average(run: Run, tmp_path: Path) -> None:
    config = TrainConfig(**BASE, ema=EmaConfig(decay=0.9))
    model, outcome = run(config)
    from oba.files import read_tensors

    state = read_tensors(tmp_path / "state/epoch-0004.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[f"average/{name}"])
    assert any(not torch.equal(state[f"average/{name}"], state[f"weights/{name}"]) for name in model.state_dict())
    assert outcome.selected_epoch == 4


def test_masked_weights_are_0_in_the_average_too(toy: SimpleNamespace) -> None:
    model = toy.toy_net()
    masks = {"head.weight": torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.5}
    config = TrainConfig(epochs=1, batch_size=12, optimizer="adamw", ema=EmaConfig(decay=0.9), clip_norm=0.1)
    for precision in ("fp32", "fp16"):
        learning = learner(model, config, RuntimeConfig(precision=precision), masks=masks)
        for number in range(1, 4):
            learning.step(*batch(), whole=12, epochs_done=0.5, number=number, seed=number)
        for net in (model, learning.counted):
            assert not net.get_parameter("head.weight")[~masks["head.weight"]].any()
            assert net.get_parameter("head.weight")[masks["head.weight"]].all()


def test_mixup_blends_pairs_and_their_targets() -> None:
    inputs, targets = batch(6)
    mixed, wanted = Mixer(TrainConfig(epochs=1, mixup=0.4, label_smoothing=0.1), 4)(inputs.clone(), targets, 7)
    hot = F.one_hot(targets, 4).float() * 0.9 + 0.1 / 4
    share = ((mixed - inputs.flip(0)) / (inputs - inputs.flip(0))).median()
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs.flip(0))
    torch.testing.assert_close(wanted, share * hot + (1 - share) * hot.flip(0))


def test_cutmix_pastes_a_box_and_counts_its_area() -> None:
    inputs, targets = batch(6)
    for seed in range(4):
        mixed, wanted = Mixer(TrainConfig(epochs=1, cutmix=1.0), 4)(inputs.clone(), targets, seed)
        own = (mixed == inputs).all(dim=1).float()
        other = (mixed == inputs.flip(0)).all(dim=1)
        assert (own.bool() | other).all()
        share = own[0].mean()
        hot = F.one_hot(targets, 4).float()
        torch.testing.assert_close(wanted, share * hot + (1 - share) * hot.flip(0))


def test_the_last_of_an_odd_number_of_images_is_not_mixed() -> None:
    inputs, targets = batch(5)
    mixed, wanted = Mixer(TrainConfig(epochs=1, mixup=1.0, label_smoothing=0.2), 4)(inputs.clone(), targets, 1)
    assert torch.equal(mixed[4], inputs[4])
    assert not torch.equal(mixed[:4], inputs[:4])
    torch.testing.assert_close(wanted[4], F.one_hot(targets[4], 4) * 0.8 + 0.05)


def test_mixing_depends_on_its_seed_alone_and_leaves_numpys_random_state() -> None:
    import numpy as np

    config = TrainConfig(epochs=1, mixup=1.0, cutmix=1.0)

    def mixed(seed: int) -> Tensor:
        inputs, targets = batch(6)
        return Mixer(config, 4)(inputs, targets, seed)[0]

    before = np.random.get_state()[1].tolist()  # pyright: ignore[reportAttributeAccessIssue]
    first = mixed(3)
    assert np.random.get_state()[1].tolist() == before  # pyright: ignore[reportAttributeAccessIssue]
    np.random.seed(0)
    assert torch.equal(mixed(3), first)
    assert not torch.equal(mixed(4), first)


def test_distillation_is_hintons_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    config = DistillationConfig(weight=0.3, temperature=2.5)
    p, q = (teacher / 2.5).softmax(1), (student / 2.5).softmax(1)
    expected = 0.7 * 1.5 + 0.3 * 2.5**2 * (p * (p / q).log()).sum(1).mean()
    found = distilled(torch.tensor(1.5, dtype=torch.float64), student, teacher, config)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_net_that_learns_from_its_teacher_alone_comes_to_agree_with_it() -> None:
    with seeded(9):
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    frozen = copy.deepcopy(teacher)
    teacher.train()
    config = FinetuneConfig(epochs=1, batch_size=12, lr=0.2, distillation=DistillationConfig(weight=1.0, temperature=1))
    model, (inputs, targets) = linear(), batch()
    learning = learner(model, config, teacher=teacher)
    losses = [
        float(learning.step(inputs.clone(), targets, whole=12, epochs_done=0, number=n, seed=0)[0])
        for n in range(1, 200)
    ]
    assert losses[-1] < 1e-3 < losses[0]
    torch.testing.assert_close(model(inputs).softmax(1), teacher(inputs).softmax(1), atol=0.05, rtol=0)
    assert same(teacher, frozen)
    assert not teacher.training


def test_fp16_scales_losses_and_skips_steps_that_overflow() -> None:
    model = linear()
    learning = learner(model, TrainConfig(epochs=1, batch_size=12), RuntimeConfig(precision="fp16"))
    state = TrainState()
    learning.save(state)
    assert state.scaler["scale"] == 2.0**16
    before = copy.deepcopy(model)
    inputs, targets = batch()
    learning.step(inputs * 30, targets, whole=12, epochs_done=0, number=1, seed=0)
    learning.save(state)
    assert state.scaler["scale"] == 2.0**15
    assert same(model, before)
    learning.step(inputs, targets, whole=12, epochs_done=0, number=2, seed=0)
    assert not same(model, before)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("layout", ["auto", "contiguous", "channels-last"])
def test_convolutions_are_channels_last_on_a_gpu_or_if_asked(device: str, layout: Any) -> None:
    from oba.training.learner import _channels_last

    expected = layout == "channels-last" or (layout == "auto" and device == "cuda")
    assert _channels_last(RuntimeConfig(memory_format=layout), torch.device(device)) == expected


@pytest.mark.slow
def test_a_compiled_training_learns_the_same(run: Run, tmp_path: Path) -> None:
    config = TrainConfig(**(BASE | {"epochs": 2}))
    plain, expected = run(config, state_dir=tmp_path / "plain")
    compiled, outcome = run(config, runtime=RuntimeConfig(compile=True))
    assert outcome.history[-1].train_loss == pytest.approx(expected.history[-1].train_loss, rel=0.05)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
