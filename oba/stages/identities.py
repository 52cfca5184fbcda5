"""The runs of stages and chains in MLflow: keys, names, tags, and what chains are compared by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from oba.addresses import redacted
from oba.codedigest import stage_code
from oba.config import PARTS, Study
from oba.dag import STAGES, Stage
from oba.files import digest_json, read_json
from oba.layout import Coordinates, Layout
from oba.provenance import git_state
from oba.report.palette import METHOD_COLORS
from oba.stages.descriptions import NOTE, describe_chain, short_name
from oba.tracking import RunIdentity
from oba.tracking.run import flatten


def stage_identity(study: Study, stage: Stage, at: Coordinates, *, key: str, digests: Mapping[str, str]) -> RunIdentity:
    """Return the run of a stage.

    Args:
        study: The study.
        stage: The stage.
        at: Its coordinates.
        key: Names all that its result depends on.
        digests: Tags that say what settings and code these are.

    Returns:
        Its identity, under that of its chain if it belongs to one.
    """
    layout = Layout(study.experiment)
    return RunIdentity(
        experiment=study.experiment,
        key=f"{study.experiment}/{stage.place(layout, at)}",
        name=short_name(stage.module, at),
        parent=chain_identity(study, at) if at.schedule else None,
        tags={**_tags(layout, stage.module), **digests} | at.given() | method_tags(study, at),
        attempt=key,
    )


def chain_identity(study: Study, at: Coordinates) -> RunIdentity:
    """Return the parent run of a chain.

    Args:
        study: The study, for the settings and the code that all points of the chain depend on.
        at: Coordinates within the chain.

    Returns:
        Its key, ``<experiment>/<model>/seed<seed>/<method>-<schedule>``, readable name, tags and attempt.
    """
    layout = Layout(study.experiment)
    # Neither the levels, which extend a chain, nor the controls, which are not on its chart, are part of this.
    stages = [STAGES[name] for name in ("prepare", "split", "trace", "dense", "prune", "finetune", "evaluate")]
    settings = [stage.sections.of(study, at).model_dump(mode="json", by_alias=True) for stage in stages]
    code = [stage_code(stage.module, stage.roots(study, at)) for stage in stages]
    whole = Coordinates(at.model, at.seed, at.method, at.schedule)
    chain = layout.chain(at)
    return RunIdentity(
        experiment=layout.experiment,
        key=chain.relative_to(layout.results).as_posix(),
        name=short_name("", whole),
        tags={"sweep": layout.experiment, "stage": "chain", **_place(study, at)}
        | whole.given()
        | method_tags(study, at)
        | {NOTE: describe_chain(study, whole, chain)},
        attempt=digest_json([settings, code]),
        params=_chain_params(study, whole, settings),
    )


def _place(study: Study, at: Coordinates) -> dict[str, str]:
    """Return by what chains are sorted and coloured: as the study lists its methods, and as the report draws them."""
    names = [method.name for method in study.methods]
    if at.method not in names:
        return {"order": f"{len(names):03}"}
    place = names.index(at.method)
    return {"order": f"{place:03}", "mlflow.runColor": METHOD_COLORS[place % len(METHOD_COLORS)]}


def _chain_params(study: Study, chain: Coordinates, settings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what chains are compared by: the method's parts with their options, the recipes, and the rest."""
    merged: dict[str, Any] = {}
    for section in settings:
        merged |= {key: value for key, value in section.items() if key not in {"threads", "gpus", "runtime"}}
    method = merged.pop("method", None) or {}
    parts = {part: value.pop("name") for part in PARTS if (value := method.get(part))}
    options = {key: value for key, value in method.items() if value not in ({}, None) and key != "name"}
    # A part's name, and below it its options.
    flat = flatten(chain.given() | options | merged) | parts
    return {key: redacted(value) for key, value in flat.items()}


def method_tags(study: Study, at: Coordinates) -> dict[str, str]:
    """Return what a method's free name stands for.

    Args:
        study: The study.
        at: Coordinates of the method.

    Returns:
        Its parts and granularity; nothing for the control that removes nothing.
    """
    method = next((m for m in study.methods if m.name == at.method), None)
    if method is None:
        return {}
    return {part: getattr(method, part).name for part in PARTS} | {"granularity": method.granularity}


def _tags(layout: Layout, stage: str) -> dict[str, str]:
    git = git_state()
    data = layout.data / "data.json"
    return {
        "sweep": layout.experiment,
        "stage": stage,
        "data_digest": read_json(data)["digest"] if data.exists() else "",
        "git_commit": str(git["commit"]),
        "git_dirty": str(git["dirty"]),
        "job_id": os.environ.get("SLURM_JOB_ID", ""),
    }
