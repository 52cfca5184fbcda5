"""What a job left, and whether it is still that.

A job's record holds a digest of each of its outputs, by name, and a seal over itself. It lies beside the outputs: the
record of ``x.json`` is ``x-run.json``, or else ``run.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oba.errors import FileError
from oba.files import digest_file, digest_json, explain_record, read_json, write_json
from oba.records import JobRecord

_SEAL = "seal"


def write_run(path: Path, facts: Mapping[str, Any], outputs: Iterable[Path]) -> None:
    """Write a job's record, with a digest of each output and a seal.

    Args:
        path: The record.
        facts: What it says besides, in plain values.
        outputs: The job's other files, complete, in the record's folder.
    """
    record = dict(facts) | {"outputs": {output.name: digest_file(output) for output in outputs}}
    write_json(path, record | {_SEAL: digest_json(record)})


def read_run(path: Path) -> JobRecord:
    """Read a job's record, checked by its seal.

    Args:
        path: The record. One that says nothing of outputs is of an earlier version, and believed.

    Returns:
        The record, as far as others read it.

    Raises:
        FileError: If it is missing, damaged or something else.
    """
    record = read_json(path)
    if isinstance(record, dict):
        seal = record.pop(_SEAL, None)
        if (seal is not None or "outputs" in record) and seal != digest_json(record):
            raise FileError(f"{path}: damaged: its content is not that of which {seal!r}, its own digest, was taken")
    try:
        return JobRecord.model_validate(record)
    except ValidationError as error:
        raise FileError(f"{path}: {explain_record(error)}") from error


def record_of(path: Path) -> Path | None:
    """Return the record of the job that made a file.

    Args:
        path: The file; it need not be there.

    Returns:
        The record, or None if there is none beside it.
    """
    if path.name.endswith("run.json"):
        return None
    candidates = (path.with_name(f"{path.stem}-run.json"), path.with_name("run.json"))
    return next((record for record in candidates if record.exists()), None)
