"""The model card: ``README.md`` of an export, with front matter as Hugging Face reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from oba.export.formats import Format
from oba.export.loading import snippet
from oba.export.metadata import Metadata, Pruning
from oba.export.source import Git
from oba.records import Accuracy

_LIBRARIES = {Format.TORCH_EXPORT: "pytorch", Format.ONNX: "onnx", Format.STATE_DICT: "oba"}
_NAMED = 20
"""Most classes that the card names; all are in ``metadata.json``."""


def model_card(metadata: Metadata) -> str:
    """Write the model card.

    Args:
        metadata: All that it tells.

    Returns:
        Markdown.
    """
    front = yaml.safe_dump(_front_matter(metadata), sort_keys=False, allow_unicode=True, width=1000)
    sections = {
        "": _introduction(metadata),
        "## Loading": snippet(metadata),
        "## Accuracy": _accuracy(metadata),
        "## Size and speed": _size(metadata),
        "## Pruning": _pruning(metadata.pruning),
        "## Classes": _classes(metadata),
        "## Provenance": _provenance(metadata),
    }
    body = [f"# {metadata.title}", *(f"{head}\n\n{text}".strip() for head, text in sections.items() if text)]
    return f"---\n{front}---\n\n" + "\n\n".join(body) + "\n"


def _front_matter(metadata: Metadata) -> dict[str, Any]:
    """Return what search engines of models read."""
    tags = ["image-classification", "oba", metadata.format]
    tags += ["pruned"] if metadata.weights or metadata.macs_kept < 1 else []
    front: dict[str, Any] = {
        "library_name": _LIBRARIES[Format(metadata.format)],
        "pipeline_tag": "image-classification",
        "tags": tags,
    }
    for accuracy, split in ((metadata.test, "test"), (metadata.val, "validation")):
        if accuracy and metadata.data:
            data = {"name": metadata.data.name, "type": metadata.data.name, "split": split}
            measured = [{"type": "accuracy", "value": accuracy.top1, "name": "top-1"}]
            result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": measured}
            front |= {"metrics": ["accuracy"], "model-index": [{"name": metadata.title, "results": [result]}]}
            break
    return front


def _introduction(metadata: Metadata) -> str:
    """Say what the net is and takes."""
    channels, height, width = metadata.input.size
    colours = {1: "grey ", 3: "RGB "}.get(channels, f"{channels}-channel ")
    given = {
        "inside": "It takes values in [0, 1] and normalises them itself",
        "outside": "It takes normalised values: from those in [0, 1], subtract the mean and divide by the standard "
        "deviation",
        "unknown": "It takes values normalised as in its training, with a mean and a standard deviation that are not "
        "on record",
    }[metadata.input.normalization]
    known = f" (mean {_numbers(metadata.input.mean)}, standard deviation {_numbers(metadata.input.std)} per channel)"
    worst = max(metadata.check.differences.values())
    return (
        f"An image classifier, exported as {code(metadata.format)} by oba: {code(metadata.architecture)} for "
        f"{metadata.num_classes} classes of {colours}images of {height} × {width} pixels.\n\n"
        f"- **Input** `images`: float32, shape (N, {channels}, {height}, {width}), any batch size N. "
        f"{given}{known if metadata.input.mean else ''}.\n"
        f"- **Output** `logits`: float32, shape (N, {metadata.num_classes}); the largest is the class.\n"
        f"- **Checked**: on random images in batches of {_listed(metadata.check.differences)}, its outputs differ from "
        f"those of the net that was exported by at most {worst:.1e} of the largest (allowed: "
        f"{metadata.check.tolerance:.0e})."
    )


def _accuracy(metadata: Metadata) -> str:
    """Tabulate accuracies."""
    found = {"test": metadata.test, "validation": metadata.val}
    rows = [[split, *_measures(accuracy)] for split, accuracy in found.items() if accuracy]
    if not rows:
        return ""
    text = _table(["split", "images", "top-1 %", "top-5 %", "loss"], rows)
    before = metadata.origin is not None and metadata.origin.stage == "prune"
    return text + ("\n\nRight after pruning, before any fine-tuning." if before else "")


def _measures(accuracy: Accuracy) -> list[str]:
    top5 = "" if accuracy.top5 is None else f"{100 * accuracy.top5:.2f}"
    return [f"{accuracy.images:,}", f"{100 * accuracy.top1:.2f}", top5, f"{accuracy.loss:.4f}"]


def _size(metadata: Metadata) -> str:
    """Tabulate costs beside the dense architecture's."""
    cost, dense, weights, speed = metadata.cost, metadata.dense_cost, metadata.weights, metadata.latency
    rows = [
        ["MACs per image", f"{cost.macs:,}", f"{dense.macs:,}", f"{100 * metadata.macs_kept:.1f} % kept"],
        ["parameters", f"{cost.parameters:,}", f"{dense.parameters:,}", f"{100 * metadata.parameters_kept:.1f} % kept"],
    ]
    if weights:
        left, whole = sum(weights.kept.values()), sum(weights.dense.values())
        rows.append(["weights that are not masked", f"{left:,}", f"{whole:,}", f"{100 * weights.fraction:.1f} % kept"])
    if speed:
        faster = f"{speed.speedup:.2f} times as fast ({speed.speedup_low:.2f} to {speed.speedup_high:.2f})"
        rows.append(["latency in ms", f"{speed.median_ms:.3g}", f"{speed.dense_median_ms:.3g}", faster])
    text = _table(["", "this net", f"dense {code(metadata.architecture)}", ""], rows)
    text += f"\n\nThe file of the net has {metadata.file_bytes:,} bytes."
    if speed:
        text += (
            f" Latency is the median of {speed.runs} passes of {speed.batch} images in {speed.runtime} on a CPU with "
            f"{speed.threads} {'thread' if speed.threads == 1 else 'threads'}, in turns with the dense architecture "
            "exported in the same format; the speedup is the median of the paired ratios, with quartiles."
        )
    if weights:
        stored = "take one bit each in the file" if metadata.format == Format.STATE_DICT else "are stored as zeros"
        text += f" Masked weights {stored}, and dense kernels gain nothing from them."
    return text


def _pruning(pruning: Pruning | None) -> str:
    """Tabulate how the net was pruned."""
    if pruning is None:
        return ""
    method = pruning.method
    of = "weights" if method["granularity"] == "weights" else "MACs"
    rows = [["method", code(method["name"])], ["keep", f"{pruning.keep:g} of the dense network's {of}"]]
    rows += [[part, _choice(method[part])] for part in ("criterion", "allocation", "update")]
    rows += [
        ["granularity", code(method["granularity"])],
        ["schedule", code(pruning.schedule)],
        ["rounds of scoring at this level", f"{pruning.rounds}, steps {code(method['descent'])}"],
        ["calibration images", f"{pruning.calibration_images:,}"],
    ]
    return _table(["", ""], rows)


def _choice(chosen: Mapping[str, Any]) -> str:
    """Name a part of a method with its options."""
    options = ", ".join(f"{key}: {json.dumps(value)}" for key, value in chosen.items() if key != "name")
    return code(chosen["name"]) + (f" ({code(options)})" if options else "")


def _classes(metadata: Metadata) -> str:
    """Name the classes by the number of their logit."""
    named = ", ".join(f"{number} {code(name)}" for number, name in enumerate(metadata.classes[:_NAMED]))
    left = len(metadata.classes) - _NAMED
    return named + (f", and {left} more in `metadata.json`" if left > 0 else "")


def _provenance(metadata: Metadata) -> str:
    """Tabulate where the net comes from."""
    origin, exported = metadata.origin, metadata.exported
    rows = []
    if metadata.data:
        rows.append(["data", f"{code(metadata.data.name)}, digest {code(metadata.data.digest)}"])
    if origin:
        at = ", ".join(f"{key} {value}" for key, value in origin.at.items())
        rows.append(["made by", f"stage {code(origin.stage)} of {code(at)}, {origin.time}"])
        rows.append(["epochs in all", "" if origin.epochs is None else str(origin.epochs)])
        rows.append([
            "made with",
            f"oba {origin.oba} ({_commit(origin.git)}), torch {origin.torch}, Python {origin.python}",
        ])
    versions = ", ".join(f"{name} {number}" for name, number in exported.versions.items())
    rows.append(["exported with", f"{versions} ({_commit(exported.git)}), {exported.time}"])
    if metadata.opset:
        rows.append(["ONNX opset", str(metadata.opset)])
    return _table(["", ""], rows)


def _commit(git: Git) -> str:
    if git.commit is None:
        return "not from a checkout"
    return f"commit {code(git.commit[:12])}" + (" with local changes" if git.dirty else "")


def code(text: str) -> str:
    """Return text as Markdown code that also stands in a table, whatever it holds.

    Args:
        text: Any text.

    Returns:
        A code span on one line.
    """
    line = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in "".join(c if c == "`" else " " for c in line).split()), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"
