"""Running the stages of one job one after the other, in one process: see :mod:`oba.jobs`."""

from __future__ import annotations

from pathlib import Path

from oba.config import Study
from oba.jobs import Rule
from oba.layout import Coordinates
from oba.stages.job import execute
from oba.training.slots import device_slots


def execute_together(rule: Rule, study: Study, at: Coordinates, *, source: Path) -> None:
    """Run a job; a stage that was finished before is not run again.

    The devices are held from the first stage to the last, before any stage's lock: a process has CUDA's devices for
    good, and of two that each hold one and wait for a lock and for a device, none would ever go on.

    Args:
        rule: The job's rule.
        study: The whole study; each stage gets its slice.
        at: The job's coordinates.
        source: The file that the study was read from.
    """
    count = max(getattr(study.gpus, stage.kind, 1) for stage in rule.stages)
    with device_slots(study.runtime.device if rule.gpu else "cpu", count):
        for stage, own in rule.each(at):
            execute(stage.module, study, own, source=source)
