"""What MLflow accepts: names, lengths, and how much in one call."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MOST = {"metrics": 1000, "params": 100, "tags": 100}
_MOST_ENTRIES, _MOST_BYTES = 1000, 800_000
_PARAM_LENGTH, TAG_LENGTH = 6000, 5000
DATASET_NAME, DATASET_DIGEST = 500, 36
"""Characters of a data set's name and digest."""
MODEL_NAME = r"^[^/:.%\"']{1,250}$"
"""What a logged model may be called."""


def clean(name: str) -> str:
    """Return a name as MLflow allows it: at most 250 letters, digits, ``_-. :`` and inner ``/``; others are ``_``."""
    name = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:250] or "_"
    return name if posixpath.normpath(name) == name and name[0] not in "./" else re.sub(r"^\.+|/", "_", name)


def clean_model(name: str) -> str:
    """Return the name of a logged model as MLflow allows it: at most 250 characters, none of ``/ : . % " '``."""
    return re.sub(r"[/:.%\"'\n]", "_", name)[:250] or "_"


def clean_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return parameters as MLflow allows them, at most 6000 characters each."""
    return {clean(key): value[:_PARAM_LENGTH] for key, value in params.items()}


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are not empty, as MLflow allows them: at most 5000 characters each."""
    return {clean(key): value[:TAG_LENGTH] for key, value in tags.items() if value}


def batches(entries: Sequence[tuple[str, Any]]) -> Iterator[dict[str, list]]:
    """Cut entities into the arguments of ``log_batch``: at most 1000 in all, 100 parameters, 100 tags and 1 MB."""
    batch: dict[str, list] = {kind: [] for kind in _MOST}
    size = 0
    for kind, entry in entries:
        # JSON writes a character in up to six bytes.
        length = 100 + 6 * len(entry.key) + (0 if kind == "metrics" else 6 * len(entry.value))
        full = len(batch[kind]) == _MOST[kind] or sum(map(len, batch.values())) == _MOST_ENTRIES
        if full or size + length > _MOST_BYTES:
            yield batch
            batch, size = {kind: [] for kind in _MOST}, 0
        batch[kind].append(entry)
        size += length
    if size:
        yield batch
