"""What a dry run would do, in a few lines: how many jobs of each stage, why, and what they would make again."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from oba.status.view import Running

_PARAMS = "Params have changed since last execution"
_FIRST = (
    ("Forced execution", "lost, damaged or asked for"),
    ("Incomplete output files", "cut short by a kill"),
    ("Code has changed", "rules changed"),
    ("Software environment", "environment changed"),
    ("Updated input files", "inputs changed"),
    ("Set of input files has changed", "inputs changed"),
    ("Missing output files", "new"),
    ("Input files updated by another job", "after the above"),
)
"""Snakemake's reasons, and what is said of a job that has this one first."""
_CODE = re.compile(r"'?[0-9a-f]{16}( [0-9a-f]{16})*'?")
_SHOWN = 5


class Plan:
    """The jobs of a dry run."""

    def __init__(self) -> None:
        """Begin with none."""
        self._why: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._again: list[str] = []

    def add(self, job: Running, record: Any) -> None:
        """Note a job that Snakemake would run.

        Args:
            job: The job.
            record: Snakemake's event: its reason, and its outputs.
        """
        if job.rule == "all":
            return
        self._why[job.rule][why(record.reason)] += 1
        if any(Path(name).exists() for name in record.output):
            self._again.append(job.name)

    def text(self) -> str:
        """Return the plan, as lines."""
        counts = {rule: sum(reasons.values()) for rule, reasons in self._why.items()}
        width = max(map(len, counts), default=0)
        digits = len(f"{sum(counts.values()):,}")
        lines = [f"{'stage':{width}}  {'jobs':>{max(4, digits)}}  why"]
        for rule, reasons in self._why.items():
            said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
            said = next(iter(reasons)) if len(reasons) == 1 else said
            lines.append(f"{rule:{width}}  {counts[rule]:>{max(4, digits)},}  {said}")
        lines.append(f"{'total':{width}}  {sum(counts.values()):>{max(4, digits)},}")
        lines.append("")
        if self._again:
            rest = len(self._again) - _SHOWN
            named = "; ".join(self._again[:_SHOWN]) + (f"; and {rest:,} more" if rest > 0 else "")
            what = "1 job" if len(self._again) == 1 else f"{len(self._again):,} jobs"
            lines += [f"the results of {what} are there, and would be deleted and made again:", f"  {named}"]
        else:
            lines.append("no result that is there would be deleted")
        return "\n".join([*lines, "this was a dry run: nothing was done (each job with its reason: -n --verbose)"])


def why(reason: str) -> str:
    """Return in a word or two why a job would run.

    Args:
        reason: Snakemake's reason.

    Returns:
        The first that counts: what a user changed comes before what follows from it.
    """
    parts = reason.split("; ")
    if any(part.startswith("Missing output files") for part in parts) and _PARAMS not in reason:
        return "new"
    if _PARAMS in reason:
        return _changed(reason.split(_PARAMS, 1)[1])
    for beginning, word in _FIRST:
        if any(part.startswith(beginning) for part in parts):
            return word
    return reason.split(":")[0].lower() or "unknown"


def _changed(params: str) -> str:
    """Return which of a job's parameters are others than before."""
    before, _, now = params.partition(" now: ")
    kinds = []
    if "{" in now or "{" in before:
        kinds.append("settings")
    rest = re.sub(r"\{.*\}", "", now)
    if any(_CODE.fullmatch(part.strip()) for part in rest.split(",")):
        kinds.append("code")
    return f"{' and '.join(kinds) or 'data or options'} changed"
