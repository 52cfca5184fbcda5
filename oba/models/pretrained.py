"""Nets with published weights, through the caches of the libraries that publish them."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from oba.errors import ModelError, explain_oserror
from oba.models.build import classifier_of, family_module, one_line, prepared
from oba.models.published import PublishedWeights, find_published

__all__ = ["build_pretrained", "describe_loaded", "find_published"]

_SILENCE = 10.0
"""Seconds without a sign of the server after which a download has failed."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for in a repository."""


def build_pretrained(
    weights: PublishedWeights, *, num_classes: int, input_size: tuple[int, int, int], replace_head: bool = False
) -> nn.Module:
    """Build a net with published weights, which are downloaded unless the library's cache has them.

    The first convolution is adapted to the number of channels: the filters of three channels are added up for one.

    Args:
        weights: Which.
        num_classes: Classes.
        input_size: Channels, height and width of the images.
        replace_head: Whether the classifier is a new one, from torch's global random state; otherwise the published
            one stays, and must have as many classes.

    Returns:
        A net as :func:`oba.models.build.build_model` returns it; a ``ModelError`` if the weights can neither be found
        nor downloaded, or cannot be used for such images.
    """
    weights.check_classes(num_classes, replace_head)
    name = f"{weights.library}/{weights.net}"

    def load() -> nn.Module:
        with _download_of(weights):
            return family_module(name).build(
                name, num_classes=num_classes, input_size=input_size, tag=weights.tag, replace_head=replace_head
            )

    return prepared(name, load, num_classes, input_size)


def describe_loaded(weights: PublishedWeights, model: nn.Module, replace_head: bool) -> dict[str, Any]:
    """Say which weights a net has got.

    Args:
        weights: What was loaded.
        model: The net, as :func:`build_pretrained` returned it.
        replace_head: Whether its classifier is new.

    Returns:
        Library with version, tag, source, and the digest of all tensors but a new classifier's.
    """
    head = classifier_of(f"{weights.library}/{weights.net}", model) if replace_head else ()
    loaded = {n: tensor for n, tensor in model.state_dict().items() if n.rpartition(".")[0] not in head}
    return {
        "library": f"{weights.library} {version(weights.library)}",
        "net": weights.net,
        "tag": weights.tag,
        "source": weights.source,
        "digest": _digest(loaded),
    }


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


@contextmanager
def _download_of(weights: PublishedWeights) -> Iterator[None]:
    """Let a download end in seconds where there is no network, with what to do about it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)
    try:
        if repository := _hub_id(weights):
            _ask_hub(repository)
        yield
    except Exception as error:
        if known := explain_oserror(error):
            raise known from error
        if _is_of_download(error):
            raise ModelError(_advice(weights, error)) from error
        raise
    finally:
        socket.setdefaulttimeout(before)


def _hub_id(weights: PublishedWeights) -> str:
    """Return the repository on Hugging Face's hub that timm takes the weights from, empty if it does not."""
    if weights.library != "timm":
        return ""
    import timm

    config: Any = timm.get_pretrained_cfg(f"{weights.net}.{weights.tag}")
    return config.hf_hub_id or ""


def _ask_hub(repository: str) -> None:
    """Ask once for weights that are not in the cache: the hub's client itself tries for most of a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import EntryNotFoundError

    name, _, revision = repository.partition("@")
    if any(isinstance(try_to_load_from_cache(name, file, revision=revision or None), str) for file in _HUB_FILES):
        return
    with suppress(EntryNotFoundError):  # the hub answers; the repository has another of the files
        get_hf_file_metadata(hf_hub_url(name, _HUB_FILES[0], revision=revision or None), timeout=_SILENCE)


def _is_of_download(error: Exception) -> bool:
    """Tell errors of the network and of the hub from those of building a net."""
    client = type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "huggingface_hub", "requests"}
    return client or isinstance(error, OSError) or "invalid hash value" in str(error)


def _advice(weights: PublishedWeights, error: Exception) -> str:
    """Return what could not be downloaded from where, and how it gets into which cache."""
    if _hub_id(weights):
        from huggingface_hub import constants

        cache, variable = constants.HF_HUB_CACHE, "HF_HOME"
    else:
        cache, variable = torch.hub.get_dir(), "TORCH_HOME"
    if weights.library == "timm":
        command = f"import timm; timm.create_model('{weights.net}.{weights.tag}', pretrained=True)"
    else:
        command = f"import torchvision; torchvision.models.get_model('{weights.net}', weights='{weights.tag}')"
    return (
        f"{weights.library}/{weights.net}: the weights {weights.tag!r} are not in the cache {cache} ({variable}) and "
        f"cannot be downloaded from {weights.source} ({one_line(error)}); on a machine with internet run: "
        f'python -c "{command}", and copy its cache here'
    )
