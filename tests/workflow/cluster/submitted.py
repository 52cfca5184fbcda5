"""A study that runs on the tests' SLURM, and what happens to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from lab import BatchJob, Lab, wait_for

OPTIONS = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
"""Of every run: nobody waits ten seconds before looking at jobs that take as long."""


class Submission:
    """One run of a study on the cluster, from the machine that submits."""

    def __init__(self, slurm: Lab, project, options: tuple[str, ...], study: dict) -> None:
        self.slurm, self.project = slurm, project
        project.write_study(**study)
        self.said = project.root / "submission.log"
        self._process = self._start([sys.executable, "-m", "oba", "run", "tiny.yaml", *OPTIONS, *options])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.said.open("ab") as stream:
            return subprocess.Popen(
                command, cwd=self.project.root, env=self.project.environment, stdout=stream, stderr=stream
            )

    def recover(self, *options: str) -> None:
        """Start ``oba recover`` in the place of the run."""
        self._process = self._start([sys.executable, "-m", "oba", "recover", *options])

    def run_ids(self) -> list[str]:
        """Return the ids of all runs so far, in their order."""
        return re.findall(r"^SLURM run ID: (\S+)", self.said.read_text(), re.MULTILINE)

    def jobs(self, rule: str = "") -> list[BatchJob]:
        """Return the jobs of all runs so far, or those of one rule, oldest first."""
        jobs = [job for run in self.run_ids() for job in self.slurm.jobs(run)]
        return [job for job in jobs if rule in {"", job.rule}]

    def running(self, rule: str, known: list[BatchJob] | None = None) -> BatchJob:
        """Wait until a job of a rule runs that is none of the known ones, and return it."""
        before = {job.number for job in known or []}

        def find() -> BatchJob | None:
            assert self._process.poll() is None, self.said.read_text()
            found = [job for job in self.jobs(rule) if job.state == "RUNNING" and job.number not in before]
            return found[0] if found else None

        return wait_for(find, f"a job of {rule}", 600)

    def waits_for(self, happened, what: str):
        """Wait for something while the run lives."""

        def look():
            assert self._process.poll() is None, self.said.read_text()
            return happened()

        return wait_for(look, what, 600)

    def kill(self) -> None:
        """Kill what submits, as the death of its machine would; the jobs stay."""
        try:
            family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self._process.wait()
        psutil.wait_procs(family)

    def finish(self, look: Callable[[], object] = lambda: None) -> None:
        """Wait until the run has ended, in success, and look at something again and again meanwhile."""
        wait_for(lambda: look() or self._process.poll() is not None, "the run's end", 1800)
        assert self._process.returncode == 0, self.said.read_text()


def kill_batch_script(slurm: Lab, job: BatchJob) -> None:
    """Kill the script that SLURM runs for a job."""
    spooled = f"{slurm.folder}/spool/job{int(job.number):05}/slurm_script"

    def scripts() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline"]) if spooled in (p.info["cmdline"] or [])]

    [script] = wait_for(scripts, "the batch script's start")
    os.kill(script.pid, signal.SIGKILL)


def working_on(command: str, job: BatchJob) -> list[psutil.Process]:
    """Return the processes of `oba` that run a command as a part of a job: none that another job left is meant."""
    found = [p for p in psutil.process_iter(["cmdline", "environ"]) if command in (p.info["cmdline"] or [])]
    mine = [p for p in found if (p.info["environ"] or {}).get("SLURM_JOB_ID") == job.number]
    return [p for p in mine if any(word.endswith("/oba") for word in p.info["cmdline"])]


def is_told(process: psutil.Process, number: signal.Signals) -> bool:
    """Tell whether a suspended process was sent a signal: it waits for it, or was woken and has taken it."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    [pending] = re.findall(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)
    return bool(int(pending, 16) >> (number - 1) & 1) or not re.search(r"^State:\s*T", status, re.MULTILINE)


def at_once(jobs: list[BatchJob]) -> int:
    """Return how many of some jobs ran at once, at most; one that starts in the second of another's end is later."""
    return max(sum(other.start <= job.start < other.end for other in jobs) for job in jobs)


def trained_epochs(root: Path, net: str) -> int:
    """Return how many epochs the saved states of a training show so far."""
    return len(list((root / "results/tiny/.state" / net / "run").glob("*/epoch-*.json")))
