from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oba.errors import ConfigError
from oba.importance.state import left_as_found


class Counting(nn.Module):
    """Writes its buffer in place, replaces another one and draws random numbers, even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().mean(0)
        return x + torch.rand(3)


def model() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), Counting(), nn.InstanceNorm1d(4)).train()
    net[2].eval()
    return net


@pytest.mark.parametrize("norm", ["eval", "train"])
@pytest.mark.parametrize("fails", [False, True])
def test_modes_buffers_and_random_state_come_back(norm: str, fails: bool) -> None:
    net = model()
    modes = [m.training for m in net.modules()]
    buffers = dict(net.named_buffers())
    contents = {name: buffer.clone() for name, buffer in buffers.items()}
    random = torch.get_rng_state()
    try:
        with left_as_found(net, norm):
            net(torch.ones(4, 3) + torch.arange(4)[:, None])
            assert net[3].calls == 1
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    for name, buffer in net.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, contents[name])


def test_only_norms_train_and_only_when_asked() -> None:
    net = model()
    with left_as_found(net, "train"):
        assert [m.training for m in net] == [False, True, False, False, True]
    with left_as_found(net, "eval"):
        assert not any(m.training for m in net.modules())


def test_gradients_are_enabled() -> None:
    with torch.no_grad(), left_as_found(model(), "eval"):
        assert torch.is_grad_enabled()


def test_autocast_is_off() -> None:
    net, x = model(), torch.ones(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert net[0](x).dtype == torch.bfloat16
        with left_as_found(net, "eval"):
            assert net[0](x).dtype == torch.float32


def test_buffers_that_did_not_change_are_not_written() -> None:
    net = model()
    with left_as_found(net, "eval"):
        pass
    assert net[1].running_mean._version == model()[1].running_mean._version


def test_an_unknown_norm_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="norm: 'batch' is unknown; allowed: eval, train"),
        left_as_found(model(), "batch"),
    ):
        pass
