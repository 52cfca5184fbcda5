"""Where the results of a sweep come from: code, versions, machines, dates, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from oba.addresses import redacted

_FACTS = {
    "oba": "oba",
    "torch": "PyTorch",
    "python": "Python",
    "device": "Device",
    "threads": "Threads",
    "host": "Machine",
}


def origin(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Gather what the records of the finished jobs say of where and when they were made.

    Args:
        records: The records.

    Returns:
        ``commits`` and ``facts``, each value with the number of jobs that say so; ``time``, the first and the last end
        of a job.
    """
    records = list(records)
    commits = Counter(_commit(record.get("git") or {}) for record in records)
    facts = {
        label: _counted(str(record[key]) for record in records if record.get(key) is not None)
        for key, label in _FACTS.items()
    }
    times = sorted(str(record["time"]) for record in records if record.get("time"))
    return {
        "commits": [{"text": text, "jobs": jobs} for text, jobs in sorted(commits.items()) if text],
        "facts": {label: found for label, found in facts.items() if found},
        "time": {"first": times[0], "last": times[-1]} if times else {},
    }


def shown_settings(value: Any) -> Any:
    """Return settings without passwords in any of their texts.

    Args:
        value: Plain values.

    Returns:
        A copy.
    """
    if isinstance(value, Mapping):
        return {str(key): shown_settings(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shown_settings(inner) for inner in value]
    return redacted(value) if isinstance(value, str) and "://" in value else value


def _commit(git: Mapping[str, Any]) -> str:
    commit = git.get("commit")
    if not commit:
        return ""
    return f"{commit}, with uncommitted changes" if git.get("dirty") else str(commit)


def _counted(values: Iterable[str]) -> list[dict[str, Any]]:
    return [{"text": text, "jobs": jobs} for text, jobs in sorted(Counter(values).items())]
