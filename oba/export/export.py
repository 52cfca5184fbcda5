"""Export a stored net: write it, run it, compare it with the net, time it, describe it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from oba.errors import ConfigError
from oba.export.card import model_card
from oba.export.check import TOLERANCE, check_outputs
from oba.export.describe import describe
from oba.export.folder import new_folder
from oba.export.formats import CARD, METADATA, Format, check_installed
from oba.export.graph import Normalizing, Run, open_graph, write_graph
from oba.export.metadata import Check, Input, Speed
from oba.export.source import Source, read_source
from oba.files import write_record, write_text
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.replay import load_pruned
from oba.training.latency import compare_passes

_FEWEST_RUNS = 3


def export_pruned(
    directory: str | Path,
    output: str | Path,
    format: str | Format = Format.TORCH_EXPORT,
    *,
    dense: nn.Module | None = None,
    normalize: bool | None = None,
    overwrite: bool = False,
    latency_batch: int = 32,
    latency_runs: int = 30,
    threads: int = 1,
) -> Path:
    """Export a stored net into a folder of its own, with a model card; checked before the folder appears.

    Args:
        directory: A folder that :func:`oba.load_pruned` reads.
        output: The folder to make.
        format: ``torch-export``, ``onnx`` or ``state-dict``.
        dense: The dense architecture, with any weights, of a net that the pipeline does not know by name; left as
            found.
        normalize: Whether the exported net takes images in [0, 1] and normalises them itself; without it, whenever the
            format holds a graph.
        overwrite: Whether an earlier export in ``output`` may be replaced.
        latency_batch: Images per timed pass.
        latency_runs: Timed passes of the net and of its dense architecture; none if 0.
        threads: CPU threads of the timed passes.

    Returns:
        The folder.

    Raises:
        ConfigError: If an option is not possible.

    Example:
        >>> export_pruned("results/digits/resnet14/seed0/dense", "dense-onnx", "onnx")
        PosixPath('dense-onnx')
    """
    if format not in list(Format):
        raise ConfigError(f"--format: {format!r} is unknown; allowed: {', '.join(Format)}")
    if latency_batch < 1 or threads < 1:
        raise ConfigError("--latency-batch, --threads: allowed: 1 or more")
    if latency_runs and latency_runs < _FEWEST_RUNS:
        raise ConfigError(f"--latency-runs: got {latency_runs}; allowed: {_FEWEST_RUNS} or more, or 0 to time nothing")
    kind, output = Format(format), Path(output)
    check_installed(kind)
    with new_folder(output, overwrite=overwrite) as folder:
        source = read_source(Path(directory), dense)
        card = source.card
        inside = _normalizes_inside(kind, card, normalize)
        facts = _write(kind, source, folder, inside=inside)
        run = _open(kind, folder, threads, dense)
        differences = check_outputs(run, source.net, card, inside=inside)
        latency = _time(kind, source, run, inside, latency_batch, latency_runs, threads) if latency_runs else None
        metadata = describe(
            kind,
            folder,
            source,
            input=Input(
                size=list(card.input_size),
                normalization="inside" if inside else "outside" if card.mean else "unknown",
                mean=list(card.mean),
                std=list(card.std),
            ),
            opset=facts.get("opset"),
            check=Check(tolerance=TOLERANCE, differences=differences),
            latency=latency,
        )
        write_record(folder / METADATA, metadata)
        write_text(folder / CARD, model_card(metadata))
    return output


def _normalizes_inside(kind: Format, card: ModelCard, wanted: bool | None) -> bool:
    """Decide who normalises; refuse what cannot be."""
    if kind is Format.STATE_DICT:
        if wanted:
            raise ConfigError(
                "--normalize: a state dict holds the net's own weights alone, and plan.json the mean and standard "
                f"deviation; allowed with --format {Format.TORCH_EXPORT} or {Format.ONNX}"
            )
        return False
    if wanted is not False and not card.mean:
        raise ConfigError(
            "--normalize: the stored net does not say with which mean and standard deviation its images are "
            "normalised; allowed: --no-normalize"
        )
    return wanted is not False


def _write(kind: Format, source: Source, folder: Path, *, inside: bool) -> dict[str, int]:
    """Write the file of the net."""
    if kind is Format.STATE_DICT:
        save_pruned(folder, source.net, source.card, source.plan, source.masks)
        return {}
    return write_graph(kind, _front(source.net, source.card, inside), source.card.input_size, folder)


def _front(net: nn.Module, card: ModelCard, inside: bool) -> nn.Module:
    """Put the normalisation before a net."""
    return Normalizing(net, card.mean, card.std).eval() if inside else net


def _open(kind: Format, folder: Path, threads: int, dense: nn.Module | None) -> Run:
    """Read back what was written."""
    return load_pruned(folder, dense) if kind is Format.STATE_DICT else open_graph(kind, folder, threads)


def _time(kind: Format, source: Source, run: Run, inside: bool, batch: int, runs: int, threads: int) -> Speed:
    """Time the exported net in turns with its dense architecture, exported alike."""
    images = torch.rand(batch, *source.card.input_size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as temporary, _threads(threads):
        reference: Run = source.dense
        if kind is not Format.STATE_DICT:
            front = _front(source.dense, source.card, inside)
            write_graph(kind, front, source.card.input_size, Path(temporary))
            reference = open_graph(kind, Path(temporary), threads)
        found = compare_passes(run, reference, images, runs=runs)
    return Speed(
        runtime=f"onnxruntime {version('onnxruntime')}" if kind is Format.ONNX else f"torch {torch.__version__}",
        batch=batch,
        runs=runs,
        threads=threads,
        median_ms=found.median_ms,
        dense_median_ms=found.reference_median_ms,
        speedup=found.speedup,
        speedup_low=found.speedup_low,
        speedup_high=found.speedup_high,
    )


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Give torch's operations so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
