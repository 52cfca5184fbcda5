"""What a run tells, from Snakemake's events: a line for each job that ended and each warning, a view of what runs."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from typing import Any

from oba.gaps import NO_MESSAGE, cause_of, is_stop
from oba.jobs import Jobs
from oba.status.plan import Plan
from oba.status.screen import Lines, screen_for, standard
from oba.status.signs import resumed_at
from oba.status.view import Running, View
from oba.status.words import outcome
from oba.training.progress import duration

_CHATTER = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Conda environments: ignored|Select jobs|Submitted job"
    r"|Removing output files of failed|Job rate limit|Touching output|Updating checkpoint|Group jobs: inactive"
    r"|Job \S+ has been submitted with SLURM|Processed \d+ potential|Finished jobid|Handing over"
    r"|Elapsed time|Complete log|Shutting down"
)
"""What Snakemake says of its own work; its log has it."""
_RESTART = re.compile(r"Trying to restart job (\d+)")
_ENDING = "Exiting because a job execution failed"
_FURTHER = "For further error details"
_RESUMES = "the same command goes on from what was saved"
_NOTHING = "Nothing to be done"
_QUIET = {"shellcmd", "resources_info", "progress", "debug_dag", "rulegraph", "group_info", "workflow_started"}
_PLACE = re.compile(r'\s+File ".*", line \d+, in ')
_COMMAND_FAILED = re.compile(r"CalledProcessError in file|At least one job did not complete")


class Teller:
    """Takes what Snakemake says and tells what people want to know."""

    def __init__(self, screen: Lines, *, dryrun: bool = False) -> None:
        """Begin with a run of which nothing is known.

        Args:
            screen: Where to tell.
            dryrun: Whether the run only plans.
        """
        self._screen = screen
        self._plan = Plan() if dryrun else None
        self._view = View(screen)
        self._jobs: dict[Any, Running] = {}
        self._study: Jobs | None = None
        self._done = 0
        self._unfinished: dict[str, str] = {}
        self.interrupted = False
        """Whether the user wants the run to stop."""
        self._began = time.time()

    def know(self, jobs: Jobs, *, cluster: bool) -> None:
        """Be told of the jobs of the study, and whether they run on a cluster."""
        self._study = jobs
        self._view.know(jobs, cluster=cluster)

    def take(self, record: logging.LogRecord) -> None:
        """Tell what there is to tell of one record of Snakemake's logger."""
        event = str(getattr(record, "event", None) or "")
        if event in _QUIET:
            return
        handle = getattr(self, f"_on_{event}", None) if event else None
        if handle is not None:
            handle(record)
        else:
            self._other(record)

    def pause(self) -> None:
        """Leave the terminal to others."""
        self._view.hide()

    def _on_run_info(self, record: Any) -> None:
        stats = {rule: count for rule, count in record.stats.items() if rule not in {"total", "all"}}
        if self._plan is not None or not stats or self._view.total:
            return
        self._view.plan(stats)
        self._screen.say(f"{sum(stats.values()):,} jobs: {', '.join(f'{n:,} {rule}' for rule, n in stats.items())}")
        if log := full_log():
            self._screen.say(f"Snakemake's own log: {log}")

    def _on_job_info(self, record: Any) -> None:
        job = Running.of(record, self._study)
        if self._plan is not None:
            self._plan.add(job, record)
            return
        if job.rule != "all":
            self._jobs[record.jobid] = job
            self._view.start(record.jobid, job)

    def _on_job_started(self, record: Any) -> None:
        """Jobs are named when they start one by one."""

    def _on_job_finished(self, record: Any) -> None:
        job = self._jobs.pop(record.job_id, None)
        if job is None:
            return
        self._done += 1
        seconds = job.seconds(record.created)
        self._view.end(record.job_id, seconds)
        resumed = resumed_at(job.log)
        name = job.name if resumed is None else f"{job.name}  resumed at epoch {resumed}"
        self._screen.say(f"{self._counted()}  {duration(seconds):>7}  {outcome(job.record):12}  {name}")

    def _on_job_error(self, record: Any) -> None:
        job = self._jobs.get(record.jobid) or Running.of(record, self._study)
        self._view.end(record.jobid, None)
        cause = cause_of(job.log, job.error_name) if record.log else ""
        if is_stop(cause) or (self.interrupted and cause in {"", NO_MESSAGE}):
            self._unfinished[str(record.jobid)] = "stopped"
            how = (
                cause.removeprefix("stopped by ") if is_stop(cause) else "the same command goes on from what was saved"
            )
            self._screen.say(f"stopped: {job.name}: {how}", "yellow")
            return
        if cause in {"", NO_MESSAGE}:
            said = " ".join(str(record.rule_msg or "").split()).split(_FURTHER)[0]
            cause = said.rstrip(" .") or cause or "no message, and no log"
        self._unfinished[str(record.jobid)] = "failed"
        where = f" (log: {', '.join(record.log)})" if record.log else ""  # on a cluster, its own besides the job's
        self._screen.say(f"failed: {job.name}: {cause}{where}", "bold red")

    def _on_group_error(self, record: Any) -> None:
        for info in record.job_error_info:
            self._on_job_error(logging.makeLogRecord(info | {"rule_msg": record.msg, "created": record.created}))

    def _on_error(self, record: Any) -> None:
        """An exception: of a command that failed, the job's own error follows."""
        text = record.getMessage()
        if _COMMAND_FAILED.search(text):
            if "At least one job" in text:
                self._close()
            return
        lines = text.splitlines()
        if len(lines) > 1 and re.match(r"\w+( in file .*)?:$", lines[0]):
            raised = lines[0].startswith("WorkflowError in file")  # by our rules: the text says all
            lines = [line for line in lines[1:] if not (raised and _PLACE.match(line))]
        self._screen.say("\n".join(f"error: {line.strip()}" for line in lines if line.strip()), "bold red")

    def _other(self, record: logging.LogRecord) -> None:
        """Tell what is no event: warnings, and whatever is not known to be chatter."""
        text = "" if record.msg is None else record.getMessage().rstrip()
        if text.startswith("Terminating processes on user request"):
            self.interrupted = True
            self._screen.say("stopping: the running jobs save what they have", "yellow")
        elif text.startswith("Will exit after finishing"):
            if not self.interrupted:  # Snakemake says so again whenever a job has ended
                self._screen.say("stopping: after the running jobs, which go on to their end", "yellow")
            self.interrupted = True
        elif found := _RESTART.match(text):
            job = next((job for number, job in self._jobs.items() if str(number) == found[1]), None)
            self._unfinished.pop(found[1], None)
            self._screen.say(f"again: {job.name if job else text}", "yellow")
        elif text.startswith(_NOTHING):
            self._nothing()
        elif text.startswith("This was a dry-run"):
            if self._plan is not None:
                self._screen.say(self._plan.text())
        elif self._plan is not None and record.levelno < logging.WARNING:
            return
        elif text.startswith("Elapsed time"):
            self._ending()
        elif text and not text.startswith(_ENDING):
            serious = record.levelno >= logging.WARNING
            if serious or not _CHATTER.match(text):
                self._screen.say(text.strip("\n"), "yellow" if serious else "")

    def _nothing(self) -> None:
        self._screen.say("nothing to do: every job of the study is done, and nothing that it depends on has changed")
        if self._plan is None and self._study is not None:
            from oba.status.closing import closing_table

            if table := closing_table(self._study):
                standard(output=True).write(table)
                standard(output=True).flush()

    def _ending(self) -> None:
        """Say how the run went, after all that it printed itself."""
        took = duration(time.time() - self._began)
        counts = Counter(self._unfinished.values())
        parts = [f"{self._done:,} of {self._view.total:,} jobs done in {took}"]
        parts += [f"{counts[kind]:,} {kind}" for kind in ("failed", "stopped") if counts[kind]]
        log = full_log()
        self._screen.say(", ".join(parts))
        if log:
            self._screen.say(f"Snakemake's own log: {log}")

    def _close(self) -> None:
        """Say what to do after a run that did not end well."""
        if self.interrupted or set(self._unfinished.values()) == {"stopped"}:
            self._screen.say("stopped; the same command goes on", "yellow")
        else:
            self._screen.say("not all jobs are done; the same command tries those that failed again", "yellow")

    def _counted(self) -> str:
        total = f"{self._view.total}"
        return f"{self._done:{len(total)}d}/{total}"


def full_log() -> str:
    """Return the file in which Snakemake keeps all that it says, as a short path; empty if it keeps none."""
    for handler in logging.getLogger("snakemake.logging").handlers:
        if isinstance(handler, logging.FileHandler):
            return os.path.relpath(handler.baseFilename)
    return ""


def teller_for(settings: Any) -> Teller:
    """Return who tells of a run.

    Args:
        settings: Snakemake's settings of its output.

    Returns:
        The teller, on standard error; of a plan, on standard output.
    """
    stream = standard(output=settings.stdout)
    return Teller(screen_for(stream, plain=settings.nocolor), dryrun=settings.dryrun)
