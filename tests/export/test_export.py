"""Stored nets through every format: what they compute, how they load without the project, what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from stored_nets import MEAN, STD, Own, card_of

import oba
from oba.errors import ConfigError, ExportError, FileError, ModelError
from oba.export.export import export_pruned
from oba.export.formats import Format
from oba.export.graph import open_graph
from oba.export.metadata import Metadata
from oba.files import digest_file, read_record
from oba.models.stored import save_pruned
from oba.pruning.replay import load_masked

NETS = {
    "resnet8": ((3, 16, 16), {"residual_streams": True}),
    "resnet8x0.5": ((1, 8, 8), {}),
    "vgg11": ((3, 32, 32), {}),
    "timm/test_vit": ((3, 64, 64), {"residual_streams": True, "heads": True, "head_dims": True}),
    "timm/test_convnext": ((3, 64, 64), {"residual_streams": True}),
    "timm/test_efficientnet": ((3, 64, 64), {}),
    "timm/regnetx_002": ((3, 64, 64), {}),
    "torchvision/resnet18": ((3, 64, 64), {}),
    "timm/swin_tiny_patch4_window7_224": ((3, 64, 64), {"heads": True}),
    "timm/eva02_tiny_patch14_224": ((3, 56, 56), {"heads": True, "head_dims": True}),
    "torchvision/vit_b_16": ((3, 32, 32), {"residual_streams": True, "heads": True}),
}
QUICK = {"resnet8", "timm/test_vit"}
FORBIDDEN = "import sys\nsys.modules.update(dict.fromkeys(('oba', 'timm', 'torchvision')))\n"
"""An import of the project, or of where its nets come from, is an ``ImportError`` from here on."""


def marked(name: str):
    return pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


def rebuilt(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Return what the stored net says of images in [0, 1]."""
    mean, std = (torch.tensor(v[: images.shape[1]]).view(-1, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        return oba.load_pruned(folder)((images - mean) / std)


@pytest.mark.parametrize("kind", [Format.TORCH_EXPORT, Format.ONNX])
@pytest.mark.parametrize("name", [marked(name) for name in NETS])
def test_a_pruned_net_computes_the_same_in_every_runtime(name, kind, store, tmp_path):
    size, options = NETS[name]
    folder = store(name, size, **options)
    export_pruned(folder, tmp_path / "out", kind, latency_runs=0)
    run = open_graph(kind, tmp_path / "out", threads=1)
    for batch in (1, 4):
        images = torch.rand(batch, *size)
        expected = rebuilt(folder, images)
        assert (run(images) - expected).abs().max() < 1e-4 * expected.abs().max()
    metadata = read_record(tmp_path / "out" / "metadata.json", Metadata)
    assert metadata.macs_kept < 0.95
    assert max(metadata.check.differences.values()) <= metadata.check.tolerance / 3


@pytest.mark.parametrize("kind", list(Format))
def test_masked_weights_are_gone_in_every_format(kind, store, tmp_path):
    folder = store(masked=True)
    export_pruned(folder, tmp_path / "out", kind, latency_runs=0)
    metadata = read_record(tmp_path / "out" / "metadata.json", Metadata)
    assert metadata.weights is not None
    assert metadata.weights.fraction == pytest.approx(0.3, abs=0.01)
    assert metadata.macs_kept == 1
    images = torch.rand(3, 3, 16, 16)
    if kind is Format.STATE_DICT:
        again, masks = load_masked(tmp_path / "out")
        assert all(torch.equal(mask, load_masked(folder)[1][name]) for name, mask in masks.items())
        assert len(masks) == 10
        weights = oba.load_pruned(folder).state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())
        assert digest_file(tmp_path / "out/model.safetensors") == digest_file(folder / "model.safetensors")
    else:
        outputs = open_graph(kind, tmp_path / "out", 1)(images)
        assert torch.allclose(outputs, rebuilt(folder, images), atol=1e-5)


@pytest.mark.parametrize("kind", list(Format))
def test_the_cards_own_lines_load_the_net_in_a_fresh_process(kind, store, tmp_path):
    """A graph's, where neither this project nor the net's library can be imported."""
    folder = store()
    export_pruned(folder, tmp_path / "out", kind, latency_runs=0)
    [lines] = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    alone = "" if kind is Format.STATE_DICT else FORBIDDEN
    images = torch.rand(1, 3, 16, 16)
    torch.save(images, tmp_path / "images.pt")
    lines = re.sub(r"^images = (torch|np)\.\S*rand\(.*?\)(\.astype\S*)?(?=  #)", "images = given", lines, flags=re.M)
    assert "images = given" in lines
    given = "import torch\ngiven = torch.load('../images.pt')\n"
    given += "given = given.numpy()\n" if kind is Format.ONNX else ""
    program = f"{alone}{given}{lines}torch.save(torch.as_tensor(logits).detach(), '../logits.pt')\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), rebuilt(folder, images), atol=1e-5)


def test_what_is_forbidden_to_a_fresh_process_is_forbidden():
    done = subprocess.run([sys.executable, "-c", FORBIDDEN + "import oba"], capture_output=True, text=True)
    assert "ModuleNotFoundError: import of oba halted" in done.stderr


def test_without_normalisation_the_graph_takes_what_the_net_takes(store, tmp_path):
    folder = store()
    export_pruned(folder, tmp_path / "out", normalize=False, latency_runs=0)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        outputs = open_graph(Format.TORCH_EXPORT, tmp_path / "out", 1)(images)
        assert torch.equal(outputs, oba.load_pruned(folder)(images))
    assert read_record(tmp_path / "out" / "metadata.json", Metadata).input.normalization == "outside"


@pytest.mark.parametrize("kind", list(Format))
def test_the_net_and_its_dense_architecture_are_timed_in_the_formats_runtime(kind, store, tmp_path):
    threads = torch.get_num_threads()
    folder = store()
    export_pruned(folder, tmp_path / "out", kind, latency_batch=2, latency_runs=3, threads=2)
    assert torch.get_num_threads() == threads
    speed = read_record(tmp_path / "out" / "metadata.json", Metadata).latency
    assert speed is not None
    assert (speed.batch, speed.runs, speed.threads) == (2, 3, 2)
    assert speed.runtime.split()[0] == ("onnxruntime" if kind is Format.ONNX else "torch")
    assert speed.median_ms > 0
    assert speed.dense_median_ms > 0
    assert 0 < speed.speedup_low <= speed.speedup <= speed.speedup_high
    assert "| latency in ms |" in (tmp_path / "out" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "out"]


def test_a_net_of_ones_own_is_exported_with_its_architecture(own, tmp_path):
    images = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))]
    small = oba.prune(own, images, keep=0.6, method={"criterion": "magnitude", "rounds": 1}, save=tmp_path / "net")
    with pytest.raises(ModelError, match=r"unknown model 'Own'.*call oba.export_pruned\(directory, output, dense="):
        oba.export_pruned(tmp_path / "net", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"does not say with which mean .* allowed: --no-normalize"):
        oba.export_pruned(tmp_path / "net", tmp_path / "out", dense=own)
    for kind in Format:
        normalize = None if kind is Format.STATE_DICT else False
        out = oba.export_pruned(tmp_path / "net", tmp_path / kind, kind, dense=own, normalize=normalize, latency_runs=3)
        metadata = read_record(out / "metadata.json", Metadata)
        assert metadata.input.normalization == "unknown"
        assert metadata.macs_kept < 0.7
        assert "not on record" in (out / "README.md").read_text()
    assert 'oba.load_pruned(".", model)  # model: the dense Own' in (out / "README.md").read_text()
    run = open_graph(Format.ONNX, tmp_path / "onnx", 1)
    assert torch.allclose(run(images[0][0]), small(images[0][0]).detach(), atol=1e-5)


def test_a_net_that_is_not_finite_is_not_exported(tmp_path, own):
    own.head.weight.data[0, 0] = torch.nan
    save_pruned(tmp_path / "net", own, card_of("Own", (3, 8, 8), 4))
    with pytest.raises(ExportError, match="the net's own outputs on random images are not finite"):
        export_pruned(tmp_path / "net", tmp_path / "out", dense=Own())
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_wrong_folders_and_damaged_files(store, tmp_path):
    with pytest.raises(FileError, match=r"nowhere: holds no stored net, for there is no plan.json; allowed: "):
        export_pruned(tmp_path / "nowhere", tmp_path / "out")
    folder = store()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileError, match=r"not the weights that plan.json beside it was written for"):
        export_pruned(folder, tmp_path / "out")
    weights.write_bytes(whole[:100])
    with pytest.raises(FileError, match="not a readable safetensors file"):
        export_pruned(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "--format: 'tflite' is unknown; allowed: torch-export, onnx, state-dict"),
        ({"latency_runs": 2}, "--latency-runs: got 2; allowed: 3 or more, or 0 to time nothing"),
        ({"latency_batch": 0}, "--latency-batch, --threads: allowed: 1 or more"),
        ({"threads": 0}, "--latency-batch, --threads: allowed: 1 or more"),
        ({"format": "state-dict", "normalize": True}, "--normalize: a state dict holds the net's own weights alone"),
    ],
)
def test_options_that_are_not_possible(options, message, store, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export_pruned(store(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command(store, tmp_path):
    from typer.testing import CliRunner

    from oba.cli import app

    arguments = ["export", str(store()), "--output", str(tmp_path / "out"), "--latency-runs", "0"]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/out: README.md, metadata.json, model.pt2\n")
    done = CliRunner().invoke(app, [*arguments, "--format", "state-dict"])
    assert isinstance(done.exception, ConfigError)
    done = CliRunner().invoke(app, [*arguments, "--format", "state-dict", "--overwrite"])
    assert done.stdout.endswith("out: README.md, metadata.json, model.safetensors, plan.json\n")
    front = (tmp_path / "out" / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(front)["library_name"] == "oba"
