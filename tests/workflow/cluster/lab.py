"""A SLURM of one machine and two pretended GPUs, without systemd and cgroups; it needs root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
"""Where SLURM looks; job steps do not inherit ``SLURM_CONF``."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
GPUS = 2
CPUS = 8
_MARK = "# written by the tests of oba"
_SLURM = """{mark}
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/ctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
KillWait=5
OverTimeLimit=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class BatchJob:
    """What SLURM knows of a job: its number, state, rule, start and end in seconds, and its GPU while it runs."""

    number: str
    state: str
    rule: str
    start: float
    end: float
    gpu: str
    fields: dict[str, str]

    def minutes_so_far(self) -> int:
        """Return for how many whole minutes the job has run."""
        return int((time.time() - self.start) // 60)


class Lab:
    """The daemons, and what there is to ask them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._host = socket.gethostname().partition(".")[0]

    def start(self) -> None:
        """Write the configuration and start the daemons; return when the node is idle."""
        self.folder.chmod(0o755)
        for name in ("state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True)
        for index in range(GPUS):  # character devices: plain files would set no CUDA_VISIBLE_DEVICES
            os.mknod(self.folder / f"gpu{index}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        settings = {"mark": _MARK, "host": self._host, "folder": self.folder, "cpus": CPUS, "gpus": GPUS}
        CONFIGURATION.mkdir(exist_ok=True)
        (CONFIGURATION / "slurm.conf").write_text(_SLURM.format_map(settings))
        (CONFIGURATION / "gres.conf").write_text(
            f"NodeName={self._host} Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n"
        )
        self._start_munge()
        self.start_controller()
        subprocess.run(["slurmd"], check=True)
        wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), "an idle node", 60)

    def _start_munge(self) -> None:
        """Start what signs messages, with a key of its own."""
        folder = self.folder / "munge"
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o600)
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        folder.chmod(0o755)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in names.items()]
        run_as = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        subprocess.run([*run_as, "munged", "--force", *options], check=True)

    def start_controller(self) -> None:
        """Start the controller; it reads what an earlier one saved."""
        subprocess.run(["slurmctld"], check=True)

    def kill_controller(self, knowing: BatchJob) -> None:
        """Kill the controller as a crash would, once it has saved that a job runs.

        Before, the next controller would start the job a second time: its node refuses that, and SLURM holds the job.
        """
        saved = self.folder / "state/job_state"
        wait_for(lambda: saved.stat().st_mtime > knowing.start + 1, "the controller to save its jobs", 60)
        pid = int((self.folder / "ctld.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the controller's end", 30)

    def stop(self) -> None:
        """Cancel all jobs, end the daemons and remove the configuration."""
        if (self.folder / "slurmd.pid").exists():
            self.cancel_all()
        for name in ("slurmd.pid", "ctld.pid", "munge/pid"):
            pid_file = self.folder / name
            if pid_file.exists():
                pid = int(pid_file.read_text())
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the end of {name}", 60)
        for name in ("slurm.conf", "gres.conf"):
            (CONFIGURATION / name).unlink(missing_ok=True)

    def cancel_all(self) -> None:
        """Cancel what is left, and wait until nothing runs any more."""
        subprocess.run(["scancel", "--user=root"], check=True)
        wait_for(lambda: not self.ask("squeue", "--noheader"), "the end of all jobs", 60)

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM says; it must answer within a minute."""
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout

    def jobs(self, run_id: str | None = None) -> list[BatchJob]:
        """Return all jobs, or those of one run, oldest first; finished ones too."""
        found = []
        for block in self.ask("scontrol", "show", "job", "--detail", "--oneliner").splitlines():
            fields = dict(re.findall(r"(\w[\w/:]*)=(\S*)", block))
            if "JobId" not in fields or (run_id and fields["JobName"] != run_id):
                continue
            rule = fields.get("Comment", "").removeprefix("rule_").partition("_wildcards_")[0]
            gpu = re.search(r"GRES=gpu:\d+\(IDX:([\d,-]+)\)", block)
            times = [_seconds(fields[name]) for name in ("StartTime", "EndTime")]
            found.append(BatchJob(fields["JobId"], fields["JobState"], rule, *times, gpu[1] if gpu else "", fields))
        return sorted(found, key=lambda job: int(job.number))


def _seconds(moment: str) -> float:
    """Return a moment as SLURM writes it, to the second; infinity if it is not known."""
    try:
        return time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return float("inf")


def wait_for(happened, what: str, seconds: float = 120.0):
    """Wait until something is true, and return it; fail after a deadline far beyond what it takes."""
    deadline = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return value


def refusal() -> str:
    """Say why no SLURM can be started here; nothing if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed; `.ci/packages` lists the Debian packages"
    if os.geteuid() != 0:
        return "only root can start a SLURM"
    configuration = CONFIGURATION / "slurm.conf"
    if configuration.exists() and not configuration.read_text().startswith(_MARK):
        return f"this machine has a SLURM of its own ({configuration})"
    return ""
