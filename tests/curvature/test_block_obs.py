"""Greedy removal against least squares by brute force at every step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oba.curvature.block_obs import Consumer, consumers_of, greedy_removal
from oba.curvature.grams import input_moments
from oba.curvature.moments import InputMoments, own_targets
from oba.curvature.refit import damped, reconstruction_loss, refit
from oba.curvature.unfold import weight_matrix
from oba.errors import ScoreError


def consumer(seed: int, outputs: int, structures: list[int], block: int, loose: int = 0) -> Consumer:
    """Return a consumer with random correlated inputs, whose blocks are scattered over its columns."""
    generator = torch.Generator().manual_seed(seed)
    columns = len(structures) * block + loose
    x = torch.randn(3 * columns, columns, generator=generator).double()
    x = x @ torch.randn(columns, columns, generator=generator).double()
    weight = torch.randn(outputs, columns, generator=generator).double()
    scattered = torch.randperm(columns, generator=generator)[: len(structures) * block]
    blocks = scattered.reshape(len(structures), block)
    return Consumer(damped(x.mT @ x / len(x), 0.01), weight, torch.tensor(structures), blocks)


def without(one: Consumer, gone: set[int]) -> tuple[float, Tensor]:
    """Return the least error of a consumer without some structures, and the weights: lstsq on a factor of A."""
    inside = [block for s, block in zip(one.structures.tolist(), one.blocks, strict=True) if s in gone]
    stays = torch.ones(len(one.gram), dtype=torch.bool)
    if inside:
        stays[torch.cat(inside)] = False
    rows = torch.linalg.cholesky(one.gram).mT
    weight = torch.zeros_like(one.weight)
    if stays.any():
        weight[:, stays] = torch.linalg.lstsq(rows[:, stays], rows @ one.weight.mT).solution.mT
    return float((rows @ (weight - one.weight).mT).square().sum()), weight


def error(consumers: list[Consumer], gone: set[int]) -> float:
    return sum(without(one, gone)[0] for one in consumers)


@st.composite
def nets(draw: st.DrawFn) -> list[Consumer]:
    """Consumers of the same structures, each of which the first one reads and the others may not."""
    count = draw(st.integers(1, 6))
    found = []
    for number in range(draw(st.integers(1, 3))):
        some = st.lists(st.integers(0, count - 1), min_size=1, unique=True)
        read = draw(some if number else st.permutations(range(count)))
        found.append(
            consumer(draw(st.integers(0, 999)), draw(st.integers(1, 4)), read, draw(st.integers(1, 3)), number)
        )
    return found


@settings(max_examples=80, deadline=None)
@given(nets())
def test_every_step_removes_what_adds_the_least_error(consumers):
    found = greedy_removal(consumers)
    count = len(consumers[0].structures)
    order, gone = found.order.tolist(), set()
    assert sorted(order) == list(range(count))
    assert found.errors[0] == 0
    assert (found.errors.diff() >= 0).all()
    for step, structure in enumerate(order):
        choices = {other: error(consumers, {*gone, other}) for other in range(count) if other not in gone}
        tolerance = 1e-8 * found.power
        assert choices[structure] <= min(choices.values()) + tolerance
        assert float(found.errors[step + 1]) == pytest.approx(choices[structure], rel=1e-7, abs=tolerance)
        gone.add(structure)


def test_without_any_column_left_the_error_is_the_power():
    consumers = [consumer(0, 3, [0, 1, 2, 3], 2), consumer(1, 2, [2, 0], 3)]
    found = greedy_removal(consumers)
    assert float(found.errors[-1]) == pytest.approx(found.power)
    assert found.power == pytest.approx(sum(float((c.weight @ c.gram @ c.weight.mT).trace()) for c in consumers))


def test_the_error_is_that_of_one_solve_for_the_kept_columns():
    one = consumer(3, 4, list(range(6)), 2, loose=1)
    found = greedy_removal([one])
    for many in range(7):
        stays = torch.ones(13, dtype=torch.bool)
        stays[one.blocks[found.order[:many]]] = False
        weight = torch.zeros_like(one.weight)
        weight[:, stays] = one.weight @ one.gram[:, stays] @ torch.linalg.inv(one.gram[stays][:, stays])
        change = one.weight - weight
        assert float(found.errors[many]) == pytest.approx(float((change @ one.gram @ change.mT).trace()))


def test_a_refit_with_the_same_damping_has_the_predicted_error():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3, bias=False)
    ((_, inputs),) = input_moments(nn.Sequential(layer), [torch.rand(30, 6, 6, 6)], ["0"])
    weight, gram = weight_matrix(layer), damped(inputs.gram, 0.02)
    columns = torch.arange(54).reshape(6, 9)
    found = greedy_removal(consumers_of(gram, weight, list(columns)))
    kept = columns[found.order[3:]].flatten()
    # The damped matrix is itself one of moments, to which the refit adds nothing.
    inputs = InputMoments(gram, inputs.mean, inputs.rows, inputs.images)
    targets = own_targets(inputs, weight).keep(kept)
    fitted, _ = refit(inputs.keep(kept), targets, weight[..., kept], None, 0.0)
    loss = reconstruction_loss(inputs.keep(kept), targets, fitted)
    assert float(loss.sum()) == pytest.approx(float(found.errors[3]), rel=1e-5)


def test_redundant_inputs_go_first_and_cost_nothing():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)).double()
    x[:, 3] = x[:, 0] + 0.5 * x[:, 1]
    weight = torch.full((2, 5), 3.0).double()
    columns = torch.arange(5)[:, None]
    found = greedy_removal([Consumer(damped(x.mT @ x / 200, 0.0), weight, torch.arange(5), columns)])
    assert int(found.order[0]) in {0, 1, 3}
    assert float(found.errors[1]) < 1e-6 * found.power
    assert float(found.errors[2]) > 1e-2 * found.power


def test_a_consumer_whose_gram_matrix_is_larger_decides():
    gram, columns = torch.eye(2).double(), torch.arange(2)[:, None]
    one, other = (torch.tensor([weight]).double() for weight in ((1.0, 3.0), (2.0, 1.0)))
    for scale, first in ((1.0, 0), (10.0, 1)):
        both = [Consumer(gram, one, torch.arange(2), columns), Consumer(scale * gram, other, torch.arange(2), columns)]
        found = greedy_removal(both)
        assert int(found.order[0]) == first
        assert float(found.errors[1]) == pytest.approx((1 + 4 * scale, 9 + scale)[first])


def test_groups_of_a_convolution_are_consumers_of_their_own():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 2, groups=2, bias=False)
    ((_, inputs),) = input_moments(nn.Sequential(layer), [torch.randn(20, 6, 5, 5)], ["0"])
    gram, weight = damped(inputs.gram, 0.01), weight_matrix(layer)
    channel = torch.arange(24).reshape(6, 4)
    # Structure 0 is a channel in both groups, 1 and 3 in one group each; 2 is not read; channels 2 and 5 stay.
    columns = [channel[[1, 3]].flatten(), channel[0], channel[:0].flatten(), channel[4]]
    first, last = consumers_of(gram, weight, columns)
    assert (first.structures.tolist(), last.structures.tolist()) == ([0, 1], [0, 3])
    assert first.blocks.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert last.blocks.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # As one consumer with a Gram matrix of two blocks.
    whole = torch.block_diag(*gram)
    wide = torch.block_diag(*weight)
    gone = torch.zeros(24, dtype=torch.bool)
    gone[columns[0]] = True
    rest = torch.linalg.inv(whole[~gone][:, ~gone])
    fitted = torch.zeros_like(wide)
    fitted[:, ~gone] = wide @ whole[:, ~gone] @ rest
    expected = float(((wide - fitted) @ whole @ (wide - fitted).mT).trace())
    assert error([first, last], {0}) == pytest.approx(expected)


def test_structures_of_unequal_blocks_are_refused():
    gram, weight = torch.eye(5).double()[None], torch.ones(1, 2, 5).double()
    with pytest.raises(ValueError, match="different numbers of columns"):
        consumers_of(gram, weight, [torch.tensor([0, 1]), torch.tensor([2])])


def test_a_structure_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="structure 1 is read by no consumer"):
        greedy_removal([consumer(0, 2, [0, 2], 1)])


def test_a_singular_gram_matrix_is_refused():
    gram = torch.ones(3, 3).double()
    with pytest.raises(ScoreError, match="not positive definite: it needs a larger damping"):
        greedy_removal([Consumer(gram, torch.ones(1, 3).double(), torch.arange(3), torch.arange(3)[:, None])])


def test_removal_leaves_its_arguments_alone():
    one = consumer(0, 2, [0, 1, 2], 2, loose=1)
    gram, weight = one.gram.clone(), one.weight.clone()
    greedy_removal([one])
    assert torch.equal(one.gram, gram)
    assert torch.equal(one.weight, weight)
