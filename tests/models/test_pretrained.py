"""Published weights are found where the libraries keep them, and downloads fail clearly: real code, random weights."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from oba.errors import FileError, ModelError
from oba.models import build_model
from oba.models.pretrained import build_pretrained, describe_loaded
from oba.models.published import find_published

SQUEEZENET, RESNET = "torchvision/squeezenet1_1", "timm/resnet10t"
HEADS = {SQUEEZENET: "classifier.1", RESNET: "fc"}


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """Put random weights of two nets where the libraries look for them first; return the weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    squeezenet = torchvision.models.get_model("squeezenet1_1").state_dict()
    in_torch_cache(tmp_path, "torchvision/squeezenet1_1", squeezenet)
    resnet = timm.create_model("resnet10t").state_dict()
    repository = tmp_path / "hub/models--timm--resnet10t.c3_in1k"
    revision = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(revision)
    (repository / "snapshots" / revision).mkdir(parents=True)
    save_file(resnet, repository / "snapshots" / revision / "model.safetensors")
    return {SQUEEZENET: squeezenet, RESNET: resnet}


def in_torch_cache(home: Path, name: str, state: dict[str, Tensor]) -> None:
    checkpoints = home / "hub/checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.save(state, checkpoints / find_published(name, None).source.rpartition("/")[2])


def built(name: str, classes: int, channels: int = 3, *, replace_head: bool = False) -> nn.Module:
    weights = find_published(name, None)
    return build_pretrained(weights, num_classes=classes, input_size=(channels, 64, 64), replace_head=replace_head)


def kept(model: nn.Module, weights: dict[str, Tensor]) -> set[str]:
    return {name for name, value in model.state_dict().items() if torch.equal(value, weights[name])}


@pytest.mark.parametrize("name", [SQUEEZENET, RESNET])
def test_weights_in_the_cache_are_loaded_with_their_classifier(caches: Any, name: str) -> None:
    assert kept(built(name, 1000), caches[name]) == caches[name].keys()


@pytest.mark.parametrize("classes", [5, 1000])
@pytest.mark.parametrize("name", [SQUEEZENET, RESNET])
def test_a_replaced_classifier_is_new_whatever_its_size(caches: Any, name: str, classes: int) -> None:
    model = built(name, classes, replace_head=True)
    head = HEADS[name]
    assert caches[name].keys() - kept(model, caches[name]) >= {f"{head}.weight"}
    assert caches[name].keys() - kept(model, caches[name]) <= {f"{head}.weight", f"{head}.bias"}
    assert len(model.state_dict()[f"{head}.weight"]) == classes


@pytest.mark.parametrize("name", [SQUEEZENET, RESNET])
def test_grey_images_are_seen_as_colour_images_of_three_equal_channels(caches: Any, name: str) -> None:
    colour, grey = built(name, 1000).eval(), built(name, 1000, channels=1).eval()
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_the_record_names_what_was_loaded(caches: Any) -> None:
    weights = find_published(RESNET, None)
    first = describe_loaded(weights, built(RESNET, 1000), False)
    assert first.pop("library") == f"timm {timm.__version__}"
    digest = first.pop("digest")
    assert first == {
        "net": "resnet10t",
        "tag": "c3_in1k",
        "source": "https://huggingface.co/timm/resnet10t.c3_in1k",
    }
    assert describe_loaded(weights, built(RESNET, 1000), False)["digest"] == digest
    heads = [describe_loaded(weights, built(RESNET, 1000, replace_head=True), True)["digest"] for _ in range(2)]
    assert heads[0] == heads[1] != digest
    other = built(RESNET, 1000)
    with torch.no_grad():
        next(iter(other.parameters())).view(-1)[0] += 1
    assert describe_loaded(weights, other, False)["digest"] != digest


@pytest.mark.parametrize("net", ["googlenet", "inception_v3"])
def test_nets_with_auxiliary_classifiers_are_what_is_built_without_weights(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    library = torchvision.models.get_model(net, aux_logits=True, init_weights=False)
    in_torch_cache(tmp_path, f"torchvision/{net}", library.state_dict())
    weights = find_published(f"torchvision/{net}", None)
    model = build_pretrained(weights, num_classes=1000, input_size=(3, 96, 96)).eval()
    again = build_model(f"torchvision/{net}", num_classes=1000, input_size=(3, 96, 96)).eval()
    again.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 96, 96)
    assert torch.equal(model(images), again(images))


OFFLINE = """
import sys
from oba.errors import ModelError
from oba.models import pretrained
pretrained._SILENCE = 0.2
for name in sys.argv[1:]:
    weights = pretrained.find_published(name, None)
    try:
        pretrained.build_pretrained(weights, num_classes=1000, input_size=(3, 64, 64))
    except ModelError as error:
        print(error)
"""


@pytest.mark.parametrize("network", ["off", "refused", "silent"])
def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, network: str) -> None:
    environment = {"TORCH_HOME": str(tmp_path / "torch"), "HF_HOME": str(tmp_path / "hf"), "no_proxy": ""}
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if network == "refused":
            server.close()
        environment |= {"HF_ENDPOINT": url, "https_proxy": url, "HF_HUB_OFFLINE": str(int(network == "off"))}
        command = [sys.executable, "-c", OFFLINE, RESNET, SQUEEZENET]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    hub, hub_torch = (line for line in done.stdout.splitlines() if not line.startswith("Downloading"))
    assert hub.startswith(
        f"{RESNET}: the weights 'c3_in1k' are not in the cache {tmp_path}/hf/hub (HF_HOME) and cannot be downloaded "
        f"from {url}/timm/resnet10t.c3_in1k ("
    )
    assert hub.endswith(
        "); on a machine with internet run: python -c \"import timm; timm.create_model('resnet10t.c3_in1k', "
        'pretrained=True)", and copy its cache here'
    )
    assert hub_torch.startswith(
        f"{SQUEEZENET}: the weights 'IMAGENET1K_V1' are not in the cache {tmp_path}/torch/hub (TORCH_HOME) and cannot "
        "be downloaded from https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth ("
    )
    assert "torchvision.models.get_model('squeezenet1_1', weights='IMAGENET1K_V1')" in hub_torch
    assert "Retrying" not in done.stderr
    assert "Traceback" not in done.stderr


class Hub(BaseHTTPRequestHandler):
    """What Hugging Face's hub answers about a repository that holds ``pytorch_model.bin`` alone."""

    content = b""

    def do_HEAD(self) -> bool:
        there = self.path.endswith("/resolve/main/pytorch_model.bin")
        self.send_response(200 if there else 404)
        about = {"ETag": '"tag"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(self.content))}
        for key, value in (about if there else {"X-Error-Code": "EntryNotFound", "Content-Length": "0"}).items():
            self.send_header(key, value)
        self.end_headers()
        return there

    def do_GET(self) -> None:
        if self.do_HEAD():
            self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


DOWNLOAD = """
import sys
from oba.models import pretrained
weights = pretrained.find_published(sys.argv[1], None)
model = pretrained.build_pretrained(weights, num_classes=1000, input_size=(3, 64, 64))
print(pretrained.describe_loaded(weights, model, False)["digest"])
"""


def test_what_the_hub_has_is_downloaded(tmp_path: Path) -> None:
    library = build_model(RESNET, num_classes=1000, input_size=(3, 64, 64))
    content = io.BytesIO()
    torch.save(library.state_dict(), content)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"content": content.getvalue()})) as server:
        threading.Thread(target=server.serve_forever).start()
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", DOWNLOAD, RESNET]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    expected = describe_loaded(find_published(RESNET, None), library, False)["digest"]
    assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RuntimeError('invalid hash value (expected "1", got "2")'), ModelError, "cannot be downloaded from https://"),
        (OSError(errno.ENOSPC, "full", "x.pth"), FileError, "x.pth: no space left on device; free some space"),
        (ValueError("odd\nvery"), ModelError, r"cannot be built for images of 3x64x64 \(ValueError: odd\)$"),
    ],
)
def test_other_errors_are_told_for_what_they_are(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def download(*_: Any, **__: Any) -> dict[str, Tensor]:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with pytest.raises(kind, match=message):
        built(SQUEEZENET, 1000)
    assert socket.getdefaulttimeout() is None


def test_weights_for_one_image_size_are_refused_for_another() -> None:
    weights = find_published("torchvision/vit_b_16", None)
    with pytest.raises(
        ModelError, match=r"cannot be built for images of 3x32x32 \(ValueError: .*'image_size' expected"
    ):
        build_pretrained(weights, num_classes=1000, input_size=(3, 32, 32))
