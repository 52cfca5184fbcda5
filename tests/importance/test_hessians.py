from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from convolutions import LAYERS, Units, X, network
from masked_nets import (
    BY_NAME,
    EVAL_IDS,
    MASKED_CASES,
    MASKED_IDS,
    NETS,
    Loss,
    MaskedNet,
    drawn,
    group,
    hessian_of,
    made,
    roots_of,
    squared,
)
from torch import Tensor, nn

from oba.importance.batches import Batch
from oba.importance.examples import ExampleMasks
from oba.importance.hessians import ROWS_AT_ONCE
from oba.importance.masks import masked, places_of
from oba.importance.state import left_as_found


def exact(net: MaskedNet, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """g and H of the loss with masks, by two reverse passes over the net written by hand."""

    def value(masks: Tensor) -> Tensor:
        return batch.loss(net.by_hand(model, masks, batch.inputs), batch.targets)

    ones = torch.ones(net.structures, dtype=torch.float64)
    return torch.func.grad(value)(ones), torch.func.jacrev(torch.func.jacrev(value))(ones)


def gauss_newton(net: MaskedNet, model: nn.Module, batch: Batch) -> Tensor:
    """``mean_n J_nᵀ (diag p_n - p_n p_nᵀ) J_n``, example by example."""
    ones = torch.ones(net.structures, dtype=torch.float64)
    matrices = []
    for x in batch.inputs.split(1):
        jacobian = torch.func.jacrev(lambda m, x=x: net.by_hand(model, m, x)[0])(ones)
        p = net.by_hand(model, ones, x)[0].detach().softmax(0)
        matrices.append(jacobian.T @ (p.diag() - p.outer(p)) @ jacobian)
    return torch.stack(matrices).mean(0).detach()


@pytest.mark.parametrize(("net", "norm"), MASKED_CASES, ids=MASKED_IDS)
def test_the_net_by_hand_is_the_masked_net(net: MaskedNet, norm: str) -> None:
    model, batch = made(net)
    masks = torch.linspace(0.2, 1.4, net.structures, dtype=torch.float64)
    parts = {g.name: part for g, part in zip(net.groups, masks.split([len(g) for g in net.groups]), strict=True)}
    with left_as_found(model, norm):
        expected = net.by_hand(model, masks, batch.inputs)
        with masked(model, net.groups, parts):
            torch.testing.assert_close(model(batch.inputs), expected, rtol=1e-12, atol=1e-13)
        assert (model(batch.inputs) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(("net", "norm"), MASKED_CASES, ids=MASKED_IDS)
@pytest.mark.parametrize("loss", [F.cross_entropy, squared])
def test_exact_rows_are_the_second_derivatives_of_the_masked_loss(net: MaskedNet, norm: str, loss: Loss) -> None:
    model, batch = made(net, loss=loss)
    with left_as_found(model, norm):
        gradient, matrix = exact(net, model, batch)
        found = hessian_of(model, net.groups, batch)
        rows = found.matrix()
    assert matrix.abs().max() > 1e-4
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(rows, matrix, rtol=1e-9, atol=1e-12)
    assert torch.equal(rows, rows.T)


@pytest.mark.parametrize("net", NETS, ids=EVAL_IDS)
def test_gauss_newton_is_its_definition(net: MaskedNet) -> None:
    model, batch = made(net)
    with left_as_found(model, "eval"):
        found = roots_of(model, net.groups, batch, 3, drawn())
        expected, (gradient, _) = gauss_newton(net, model, batch), exact(net, model, batch)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.matrix(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.diagonal(), expected.diagonal(), rtol=1e-9, atol=1e-12)
    assert torch.equal(found.matrix(), found.matrix().T)


class MaskedScale(nn.Module):
    """A structure that is consumed on the way to a norm's scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        gate = torch.tanh(self.stem(x))
        scale = self.gate(gate if masks is None else gate * masks).mean(0)
        return self.head(F.batch_norm(x, self.norm.running_mean, self.norm.running_var, scale, self.norm.bias))


def test_a_norm_whose_scale_is_computed_is_no_constant() -> None:
    torch.manual_seed(0)
    model = MaskedScale().double().eval()
    inputs, targets = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    batch, groups = Batch(0, inputs, targets, F.cross_entropy), [group("stem", 5, ("stem", "out"), ("gate", "in"))]

    def value(masks: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs, masks), targets)

    ones = torch.ones(5, dtype=torch.float64)
    gradient, matrix = torch.func.grad(value)(ones), torch.func.jacrev(torch.func.jacrev(value))(ones)
    assert gradient.abs().min() > 1e-6
    found = hessian_of(model, groups, batch)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.matrix(), matrix, rtol=1e-9, atol=1e-12)
    masks = ExampleMasks(model, places_of(model, groups), inputs)
    derivatives = masks.derivative(batch.loss_of(masks.outputs))
    torch.testing.assert_close(derivatives.sum(0), gradient, rtol=1e-10, atol=1e-13)


def test_label_smoothing_changes_the_gradient_and_not_gauss_newton() -> None:
    net, smoothed = BY_NAME["mlp"], functools.partial(F.cross_entropy, label_smoothing=0.3)
    model, batch = made(net, loss=smoothed)
    with left_as_found(model, "eval"):
        plain = roots_of(model, net.groups, made(net)[1], 3, drawn())
        found = roots_of(model, net.groups, batch, 3, drawn())
        gradient, _ = exact(net, model, batch)
    assert torch.equal(found.matrix(), plain.matrix())
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-13)
    assert not torch.allclose(found.gradient, plain.gradient)


def test_within_one_layer_of_a_piecewise_linear_net_gauss_newton_is_exact() -> None:
    # The logits are linear in the masks at the input of one layer: nothing but the loss is curved.
    net = BY_NAME["piecewise"]
    model, batch = made(net)
    with left_as_found(model, "eval"):
        rows = hessian_of(model, net.groups, batch).matrix()
        roots = roots_of(model, net.groups, batch, 3, drawn()).matrix()
    for block in (slice(0, 3), slice(3, 7)):
        torch.testing.assert_close(rows[block, block], roots[block, block], rtol=1e-10, atol=1e-14)
    assert (rows[:3, 3:] - roots[:3, 3:]).abs().max() > 1e-5


@pytest.mark.parametrize("net", [BY_NAME["residual"], BY_NAME["mlp"]], ids=["residual", "mlp"])
def test_drawn_classes_are_unbiased(net: MaskedNet) -> None:
    model, batch = made(net)
    with left_as_found(model, "eval"):
        expected = gauss_newton(net, model, batch)
        draws = [roots_of(model, net.groups, batch, 2, drawn(seed)) for seed in range(150)]
        gradient, _ = exact(net, model, batch)
    matrices = torch.stack([draw.matrix() for draw in draws])
    error = matrices.std(0) / len(draws) ** 0.5
    assert ((matrices.mean(0) - expected).abs() <= 4.5 * error + 1e-15).all()
    assert error.max() < 0.2 * expected.abs().max()
    for draw in draws[:3]:
        # The gradient is not drawn.
        torch.testing.assert_close(draw.gradient, gradient, rtol=1e-10, atol=1e-13)


def test_drawn_classes_know_their_error() -> None:
    net = BY_NAME["mlp"]
    model, batch = made(net)
    with left_as_found(model, "eval"):
        expected = gauss_newton(net, model, batch).diagonal()
        draws = [roots_of(model, net.groups, batch, 2, drawn(seed)) for seed in range(300)]
        assert roots_of(model, net.groups, batch, 3, drawn()).variance() is None
    diagonals = torch.stack([draw.diagonal() for draw in draws])
    reported = torch.stack([v for draw in draws if (v := draw.variance()) is not None])
    assert len(reported) == len(draws)
    alive = expected > 1e-12
    assert alive.sum() >= 8
    ratio = reported.mean(0)[alive] / diagonals.var(0)[alive]
    assert ratio.min() > 0.6
    assert ratio.max() < 1.7


def test_drawn_classes_follow_the_generator_alone() -> None:
    net = BY_NAME["mlp"]
    model, batch = made(net)
    with left_as_found(model, "eval"):
        first, again, other = (roots_of(model, net.groups, batch, 2, drawn(seed)).matrix() for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_probes_are_unbiased_and_know_their_error() -> None:
    net = BY_NAME["residual"]
    model, batch = made(net)
    with left_as_found(model, "eval"):
        hessian = hessian_of(model, net.groups, batch)
        expected = hessian.matrix().diagonal()
        many, variance = hessian.probed_diagonal(400, drawn())
        repeats = [hessian.probed_diagonal(8, drawn(seed)) for seed in range(60)]
    # One channel is dead on all examples.
    alive = expected != 0
    assert alive.tolist() == [True] * 7 + [False, True]
    assert not many[~alive].any()
    assert not variance[~alive].any()
    assert ((many - expected).abs() <= 4.5 * variance.sqrt()).all()
    spread = torch.stack([mean for mean, _ in repeats]).var(0)
    reported = torch.stack([of_mean for _, of_mean in repeats]).mean(0)
    ratio = (reported / spread)[alive]
    assert ratio.min() > 0.5
    assert ratio.max() < 2


def test_probes_of_a_diagonal_matrix_have_no_error() -> None:
    # A structure of each half reaches its own output alone.
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False)).double()
    model[1].load_state_dict({"weight": torch.diag(torch.tensor([0.5, -2.0]))})
    batch = Batch(0, torch.ones(3, 2, dtype=torch.float64), None, lambda y, _: y.square().sum())
    with left_as_found(model, "eval"):
        hessian = hessian_of(model, [group("0", 2, ("0", "out"), ("1", "in"))], batch)
        mean, variance = hessian.probed_diagonal(4, drawn())
        torch.testing.assert_close(mean, hessian.matrix().diagonal(), rtol=1e-12, atol=0)
    assert variance.max() < 1e-20


def test_more_rows_than_are_computed_at_once_are_right() -> None:
    torch.manual_seed(0)
    count = 2 * ROWS_AT_ONCE + 3
    model = nn.Sequential(nn.Linear(4, count), nn.Tanh(), nn.Linear(count, 3)).double()
    batch = Batch(0, torch.randn(4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0]), F.cross_entropy)
    with left_as_found(model, "eval"):
        hessian = hessian_of(model, [group("0", count, ("0", "out"), ("2", "in"))], batch)
        vectors = torch.randn(count, count, dtype=torch.float64)
        torch.testing.assert_close(hessian.products(vectors), vectors @ hessian.matrix(), rtol=1e-9, atol=1e-13)


def test_frozen_parameters_change_nothing() -> None:
    net = BY_NAME["residual"]
    model, batch = made(net)
    with left_as_found(model, "eval"):
        expected = (
            hessian_of(model, net.groups, batch).matrix(),
            roots_of(model, net.groups, batch, 3, drawn()),
        )
        model.requires_grad_(False)
        found = (
            hessian_of(model, net.groups, batch).matrix(),
            roots_of(model, net.groups, batch, 3, drawn()),
        )
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found[1].matrix(), expected[1].matrix(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("samples", "passes"), [(3, 3), (2, 2 + 1)], ids=["all classes", "drawn, and the loss"])
def test_gauss_newton_costs_a_forward_pass_and_one_pass_back_for_each_class(samples: int, passes: int) -> None:
    model = network()
    groups = [group(f"{2 * i}", 3, (f"{2 * i}", "out"), (f"{2 * i + 2}", "in")) for i in range(LAYERS - 1)]
    batch = Batch(0, X, torch.tensor([0, 2]), F.cross_entropy)
    with left_as_found(model, "eval"), Units() as units:
        roots_of(model, groups, batch, samples, drawn())
    assert units.count == {"forward": LAYERS, "to input": passes * (LAYERS - 1), "to weight": 0}


@pytest.mark.parametrize(
    ("loss", "masks"),
    [
        (lambda y, _: (y * 0).sum().detach().requires_grad_(), "none"),
        (lambda y, _: y.sum(), "one layer"),
        (lambda y, _: y[:, 0].detach().sum() + torch.zeros((), requires_grad=True), "none"),
    ],
    ids=["constant", "linear", "detached"],
)
def test_constant_derivatives_have_zeros_in_the_right_shape(loss: Loss, masks: str) -> None:
    # A loss linear in the logits is linear in the masks of one layer.
    net = BY_NAME["piecewise"]
    model, batch = made(net, loss=loss)
    found = hessian_of(model, net.groups[1:], batch)
    assert found.gradient.any().item() is (masks == "one layer")
    assert torch.equal(found.matrix(), torch.zeros(4, 4, dtype=torch.float64))
    mean, variance = found.probed_diagonal(3, drawn())
    assert torch.equal(mean, torch.zeros(4, dtype=torch.float64))
    assert not variance.any()
