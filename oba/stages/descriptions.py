"""What people read in MLflow: names that its narrow lists do not cut, and descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oba.addresses import redacted
from oba.config import Study
from oba.layout import DENSE_LONGER, Coordinates, Layout, first_methods, method_of, models_by_slug
from oba.tracking.described import EXPERIMENT
from oba.tracking.links import charts
from oba.tracking.view import saved_view

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description, in Markdown."""
_DOES = {
    "prepare": "Reads the data set once and leaves it as arrays or a list of files, with a digest.",
    "split": "Divides the images into train, val and test.",
    "trace": "Finds what may be removed from the architecture.",
    "dense": "Trains the net that all chains of its seed start from, or takes it from elsewhere.",
    "prune": "Removes structures or weights.",
    "finetune": "Trains the pruned net on.",
    "scratch": "Control: trains the pruned architecture from new weights.",
    "evaluate": "Reads the test images, counts the cost, and times the net beside its dense architecture.",
}


def short_name(command: str, at: Coordinates) -> str:
    """Return what a run or net is called in MLflow, whose lists cut names after some 20 characters.

    Args:
        command: The stage's command; nothing for chains and nets.
        at: The coordinates.

    Returns:
        What tells runs apart, the most telling first: ``oba-joint keep0.40 finetune seed0 resnet20``.
    """
    first = at.method or ("dense" if at.variant == "dense" and command != "dense" else "")
    words = [first, "oneshot" if at.schedule == "oneshot" else "", f"keep{at.keep}" if at.keep else ""]
    words += [command, "scratch" if at.variant == "scratch" and command != "scratch" else ""]
    words += [f"seed{at.seed}" if at.seed is not None else "", at.model]
    return " ".join(filter(None, words))


def describe_stage(study: Study, command: str, at: Coordinates, record: Path) -> str:
    """Return a stage's description.

    Args:
        study: The study.
        command: The stage's command.
        at: The coordinates.
        record: The job's record.

    Returns:
        Markdown: what it does, where its files are, and how its net is loaded.
    """
    folder = record.parent
    lines = [f"{_DOES[command]} {_what(study, at)}".strip(), "", f"Files: `{folder}/`"]
    if command in {"dense", "prune", "finetune", "scratch", "evaluate"}:
        lines += ["", "```python", "import oba", "", f'model = oba.load_pruned("{folder}")', "```"]
    return "\n".join(lines)


def describe_chain(study: Study, at: Coordinates, folder: Path) -> str:
    """Return a chain's description.

    Args:
        study: The study.
        at: The chain's coordinates.
        folder: Its folder.

    Returns:
        Markdown.
    """
    return "\n".join([
        f"{_what(study, at)} Each point of its charts is one net after fine-tuning; *step* is how much was removed, in "
        "per cent, and 0 the dense net.",
        "",
        f"Files: `{folder}/`",
    ])


def experiment_tags(study: Study) -> dict[str, str]:
    """Return what MLflow shows of a study.

    Args:
        study: The study.

    Returns:
        Tags of the experiment: a description, and a saved view of all its chains.
    """
    layout = Layout(study.experiment)
    methods = [f"- `{m.name}`: {_parts(study, m.name)}" for m in study.methods]
    first = " and ".join(f"`{name}`" for name in first_methods(study))
    link = f"[Accuracy against MACs removed, one line for each method]({charts(EXPERIMENT)})"
    text = [
        f"Networks {', '.join(f'`{name}`' for name in models_by_slug(study).values())} on `{study.data.name}`, "
        f"seeds {', '.join(map(str, study.seeds))}, pruned to {', '.join(f'{k:.0%}' for k in study.keep)} "
        f"({', '.join(study.schedules)}); compared with {first}.",
        "",
        *methods,
        "",
        f"Files: `{layout.root}/`, the report in `{layout.report}/`. A net: "
        '`oba.load_pruned(folder)`, or `mlflow.pyfunc.load_model("models:/<model id>")` from *Models*.',
    ]
    return {NOTE: "\n".join([link, "", *map(redacted, text)])} | saved_view()


def _what(study: Study, at: Coordinates) -> str:
    """Say in one sentence what some coordinates stand for."""
    said = [f"`{at.method}`: {_parts(study, at.method)}" if at.method else ""]
    said += [f"{float(at.keep):.0%} kept" if at.keep else "", at.schedule]
    said += [f"`{models_by_slug(study).get(at.model, at.model)}`" if at.model else ""]
    said += [f"seed {at.seed}" if at.seed is not None else ""]
    return f"{', '.join(filter(None, said))}." if any(said) else ""


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in options.items())


def _parts(study: Study, name: str) -> str:
    if name == DENSE_LONGER:
        return "nothing removed, the dense net trained on"
    method = method_of(study, name)
    parts = (method.criterion, method.allocation, method.update)
    shown = [part.name + (f" ({_options(part.options)})" if part.options else "") for part in parts]
    return " × ".join(shown) + (", single weights" if method.granularity == "weights" else "")
