"""Tags that describe an experiment, of which people may change any: what they wrote stays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from oba.tracking.limits import TAG_LENGTH
from oba.tracking.store import Store

SAID = "oba.said"
"""The tag that tells, by their checksums, which values are this project's."""
EXPERIMENT = "{experiment}"
"""Stands for the experiment's id in texts that are made before it is known."""


def describe(store: Store, name: str, values: Mapping[str, str]) -> None:
    """Set tags of an experiment, except those that people have changed.

    Args:
        store: The open store.
        name: The experiment.
        values: The tags, in which :data:`EXPERIMENT` stands for the experiment's id.
    """
    number = store.experiment(name).experiment_id
    call = store.connection.call
    tags = call("get_experiment", number).tags
    said = _read(tags.get(SAID, ""))
    wanted = {key: value.replace(EXPERIMENT, number)[:TAG_LENGTH] for key, value in values.items()}
    # A process that was killed here leaves what it wanted, too, without a checksum.
    free = {key for key in wanted if key not in tags or tags[key] == wanted[key] or _sum(tags[key]) == said.get(key)}
    for key in free:
        if tags.get(key) != wanted[key]:
            call("set_experiment_tag", number, key, wanted[key])
    new = said | {key: _sum(wanted[key]) for key in free}
    if new != said:
        call("set_experiment_tag", number, SAID, json.dumps(new))


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _read(text: str) -> dict[str, str]:
    """Read the checksums; a damaged tag says nothing, and then nothing is overwritten."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
