"""Two ranks train as one does on the same batches, and go on with the same bits."""

from __future__ import annotations

import pytest
import torch
from rank_runs import Found, found_by_one, found_by_two
from trained import PLAIN, everything, net, trained

from oba import ranks
from oba.errors import ConfigError, TrainingError
from oba.study import parse_study
from oba.training.loop import _steps


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Found:
    return found_by_one(everything, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Found, Found]:
    return found_by_two("trained.py", tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("recipe", PLAIN)
def test_two_ranks_train_as_one(one, two, recipe):
    names = [name for name in one if name.startswith(f"{recipe} ")]
    assert len(names) > 6
    for name in names:
        torch.testing.assert_close(two[0][name], one[name], rtol=1e-6, atol=1e-8, msg=name)


def test_norms_measure_each_ranks_part_and_all_ranks_share_the_mean(one, two):
    mean = "norms norm.running_mean"
    torch.testing.assert_close(two[0][mean], one[mean], rtol=0.2, atol=0.02)
    assert not torch.allclose(two[0][mean], one[mean], rtol=1e-6)
    assert torch.equal(two[0][mean], two[1][mean])


def test_all_ranks_end_with_the_same_bits(two):
    assert list(two[0]) == list(two[1])
    assert [name for name in two[0] if not torch.equal(two[0][name], two[1][name])] == []


@pytest.mark.parametrize(("whole", "stopped"), [("norms", "again"), ("average", "within")])
def test_ranks_that_were_stopped_go_on_and_end_with_the_same_bits(two, whole, stopped):
    names = [name for name in two[0] if name.startswith(f"{whole} ")]
    assert len(names) > 6
    for name in names:
        assert torch.equal(two[0][name.replace(whole, stopped)], two[0][name]), name


@pytest.mark.parametrize(
    ("images", "batch", "count", "steps"),
    [(50, 10, 2, 5), (51, 10, 2, 5), (53, 10, 2, 5), (54, 10, 2, 6), (3, 1, 1, 3), (5, 2, 1, 2), (7, 4, 4, 1)],
)
def test_a_last_batch_that_leaves_a_rank_a_single_image_is_left_out(monkeypatch, images, batch, count, steps):
    monkeypatch.setattr(ranks, "count", lambda: count)
    assert _steps(images, batch) == steps


def test_a_batch_of_too_few_images_for_the_ranks_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("oba.training.loop.ranks.count", lambda: 3)
    monkeypatch.setattr("oba.training.learner.distribute", lambda model, device: model)
    with pytest.raises(
        TrainingError, match=r"^net: batch_size 5 leaves a rank fewer than two images; allowed with 3 r"
    ):
        trained(tmp_path, net(), {"batch_size": 5})


def test_batch_norms_are_synchronised_on_gpus_alone(study_values):
    with pytest.raises(ConfigError, match="runtime: sync_batchnorm is true, but device is 'cpu'; allowed on GPUs"):
        parse_study({**study_values, "runtime": {"device": "cpu", "sync_batchnorm": True}}, "study")


def test_a_net_on_the_cpu_cannot_be_synchronised():
    from oba.training.ingredients.synchronized import make

    with pytest.raises(TrainingError, match=r"runtime\.sync_batchnorm: true, but training runs on a CPU"):
        make(torch.nn.BatchNorm2d(3))
