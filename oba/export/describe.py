"""From a net and its history to the metadata of its export."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from oba.export.formats import FILES, NEEDED, Format
from oba.export.metadata import Check, Exported, Images, Input, Metadata, Origin, Pruning, Speed
from oba.export.source import Git, History, Source
from oba.provenance import git_state, now
from oba.pruning.cost import measure
from oba.pruning.weights.prunable import count_weights
from oba.records import Cost


def describe(
    kind: Format,
    folder: Path,
    source: Source,
    *,
    input: Input,
    opset: int | None,
    check: Check,
    latency: Speed | None,
) -> Metadata:
    """Gather what is known of an exported net.

    Args:
        kind: Its format.
        folder: Where its file is.
        source: The net.
        input: What it takes.
        opset: Version of ONNX's operators.
        check: How near it is to the net.
        latency: How fast it is.

    Returns:
        The metadata.
    """
    card, history = source.card, source.history
    cost, dense_cost = measure(source.net, card.input_size), measure(source.dense, card.input_size)
    weights = count_weights(source.masks) if source.masks else None
    macs_kept = cost.macs / dense_cost.macs
    trained = history.trained or history.pruned
    libraries = ("oba", "torch", *NEEDED.get(kind, ()))
    return Metadata(
        title=_title(card.name, macs_kept, weights.fraction if weights else None, history),
        format=str(kind),
        file=FILES[kind],
        file_bytes=sum(path.stat().st_size for path in folder.glob(f"{FILES[kind]}*")),
        opset=opset,
        architecture=card.name,
        known_by_name=source.named,
        num_classes=card.num_classes,
        classes=list(card.classes),
        input=input,
        cost=Cost(**asdict(cost)),
        dense_cost=Cost(**asdict(dense_cost)),
        macs_kept=macs_kept,
        parameters_kept=cost.parameters / dense_cost.parameters,
        weights=weights,
        pruning=_pruning(history),
        test=history.evaluation.test if history.evaluation else None,
        val=trained.val if trained else None,
        check=check,
        latency=latency,
        data=Images(name=history.data.name, digest=history.data.digest) if history.data else None,
        origin=_origin(history),
        exported=Exported(
            git=Git(**git_state()),
            versions={name: version(name) for name in libraries} | {"python": platform.python_version()},
            time=now(),
        ),
    )


def _title(name: str, macs_kept: float, weights_kept: float | None, history: History) -> str:
    """Say in a few words what the net is."""
    method = history.method["name"] if history.method else ""
    by = f" by {method}" if method else ""
    if weights_kept is not None:
        return f"{name} with {100 * weights_kept:.1f} % of its weights{by}"
    return f"{name} pruned to {100 * macs_kept:.1f} % of its MACs{by}" if macs_kept < 1 else name


def _pruning(history: History) -> Pruning | None:
    """Say how the net was pruned."""
    if history.pruned is None or history.method is None or history.made is None:
        return None
    return Pruning(
        method=history.method,
        schedule=history.made.at["schedule"],
        keep=history.pruned.keep,
        rounds=len(history.pruned.rounds),
        calibration_images=history.pruned.calibration_images,
    )


def _origin(history: History) -> Origin | None:
    """Say what made the net."""
    made, trained = history.made, history.trained or history.pruned
    if made is None:
        return None
    facts = {name: getattr(made, name) for name in ("stage", "at", "git", "oba", "torch", "python", "time")}
    return Origin(**facts, epochs=trained.total_epochs if trained else None)
