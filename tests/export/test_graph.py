"""Graphs: the normalisation inside, what cannot be traced, and what a file does not tell."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from stored_nets import MEAN, STD
from torch import nn

from oba.errors import ExportError
from oba.export.formats import FILES, Format, check_installed
from oba.export.graph import Normalizing, open_graph, write_graph

GRAPHS = [Format.TORCH_EXPORT, Format.ONNX]
SIZE = (3, 8, 8)


def test_normalising_is_subtracting_the_mean_and_dividing_by_the_deviation():
    images = torch.rand(2, *SIZE)
    expected = torch.stack([(images[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    assert torch.allclose(Normalizing(nn.Identity(), MEAN, STD)(images), expected, atol=1e-6)


def test_folding_into_a_convolution_that_pads_would_change_the_borders():
    """Why there is a module before the net, and not other weights in it."""
    conv = nn.Conv2d(3, 4, 3, padding=1)
    std, mean = torch.tensor(STD), torch.tensor(MEAN)
    weight = conv.weight / std.view(1, -1, 1, 1)
    bias = conv.bias - (weight * mean.view(1, -1, 1, 1)).sum((1, 2, 3))
    images = torch.rand(2, *SIZE)
    error = (F.conv2d(images, weight, bias, padding=1) - Normalizing(conv, MEAN, STD)(images)).abs().amax((0, 1))
    assert error[1:-1, 1:-1].max() < 1e-5
    assert min(error[0].min(), error[-1].min(), error[:, 0].min(), error[:, -1].min()) > 1e-3


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_runs_on_batches_of_any_size_and_nothing_is_said(kind, own, tmp_path, capfd):
    facts = write_graph(kind, own, SIZE, tmp_path)
    assert facts.keys() == ({"opset"} if kind is Format.ONNX else set())
    run = open_graph(kind, tmp_path, threads=1)
    for size in (1, 2, 3, 7, 64):
        images = torch.randn(size, *SIZE)
        assert torch.allclose(run(images), own(images), atol=1e-5)
    assert tuple(capfd.readouterr()) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == [FILES[kind]]


def test_an_onnx_graph_names_what_it_takes_and_gives(own, tmp_path):
    import onnx

    write_graph(Format.ONNX, own, SIZE, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    [image], [logits] = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("images", "logits")
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (image, logits)]
    assert dims == [["batch", 3, 8, 8], ["batch", 4]]


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_file_does_not_tell_where_on_this_machine_it_was_made(kind, own, tmp_path):
    write_graph(kind, own, SIZE, tmp_path)
    path = tmp_path / FILES[kind]
    texts = [path.read_bytes()]
    if kind is Format.TORCH_EXPORT:
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name) for name in archive.namelist()]
    home = str(Path(__file__).parents[2]).encode()
    installed = str(Path(torch.__file__).parent).encode()
    assert not any(place in text for text in texts for place in (home, installed))


class Branches(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4] if x.sum() > 0 else x.flatten(1)[:, 4:8]


class Pairs(nn.Module):
    def forward(self, x):
        return x.view(2, 3, 64).mean(1)[:, :4]


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize(
    ("net", "why"), [(Branches(), "Could not guard on data-dependent"), (Pairs(), "Constraints violated .*batch")]
)
def test_a_net_whose_way_depends_on_values_or_on_the_batch_is_refused(kind, net, why, tmp_path):
    with pytest.raises(ExportError, match=rf"the net cannot be exported as {kind} \(\w+: {why}") as info:
        write_graph(kind, net, SIZE, tmp_path)
    assert "\n" not in str(info.value)
    assert not list(tmp_path.iterdir())


class Biased(nn.Module):
    """Attention with a learnt bias, whose kernel is another one while gradients are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 2, 64, 64))

    def forward(self, x):
        heads = x.flatten(2).transpose(1, 2).repeat(1, 1, 2).unflatten(-1, (2, 3)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(heads, heads, heads, self.bias.expand(x.shape[0], -1, -1, -1))
        return attended.transpose(1, 2).flatten(2).mean(1)


@pytest.mark.parametrize("kind", GRAPHS)
def test_attention_with_a_learnt_bias_runs_and_needs_no_gradients(kind, tmp_path):
    torch.manual_seed(0)
    net = Biased().eval()
    write_graph(kind, net, SIZE, tmp_path)
    assert net.bias.requires_grad
    images = torch.randn(5, *SIZE)
    outputs = open_graph(kind, tmp_path, threads=1)(images)
    assert torch.allclose(outputs, net(images), atol=1e-5)
    assert not outputs.requires_grad


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, monkeypatch):
    check_installed(Format.ONNX)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError) as info:
        check_installed(Format.ONNX)
    assert str(info.value) == (
        f"--format onnx: needs {package}, which is not installed; install with: pip install onnx onnxscript onnxruntime"
    )
    check_installed(Format.TORCH_EXPORT)
    check_installed(Format.STATE_DICT)
