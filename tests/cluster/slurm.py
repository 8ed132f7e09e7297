"""A Slurm of one node on loopback, as root, without systemd: munged, slurmctld, slurmd; its GPUs are only counted.

By hand: `python -m tests.cluster.slurm start FOLDER`, then `sinfo`, `squeue`, `snakemake --workflow-profile ...`, and
at the end `python -m tests.cluster.slurm stop FOLDER`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SETTINGS = Path("/etc/slurm")
"""Where the programs look by themselves: the executor plugin drops SLURM_CONF from the environment of its jobs."""
OURS = "# Written by the tests of buffycoat; deleted when they end."
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
"""Each stands for a GPU: Slurm wants a device file for each, and hands out its place in this list."""
CPUS = 32
"""More than the machine has, so that the jobs get what the profile asks for. Nothing is bound to a core."""
MEMORY_MB = 256_000

SLURM_CONF = """{ours}
{starter}{process}
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=20
# On a busy machine nothing that is merely slow may count as lost.
MessageTimeout=30
TCPTimeout=30
UnkillableStepTimeout=180
BatchStartTimeout=180
SlurmdTimeout=600
MinJobAge=900
ReturnToService=2
JobRequeue=1
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
Prolog={folder}/note_gpus
# The node may promise more than it has.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


NOTE_GPUS = """#!/bin/sh
echo "$SLURM_JOB_ID $SLURM_JOB_GPUS" >> '{folder}/gpus.txt'
"""
"""Run on the node before each job, where Slurm tells which GPUs the job has."""


STARTER = "# Started by process "
"""Before the number of the process whose end makes a Slurm that still runs a leftover; "by hand" makes none."""


class CannotStart(Exception):
    """Slurm cannot be started here; the text says why."""


@dataclass(frozen=True)
class Slurm:
    """The daemons, whose state, keys and logs are in `folder`."""

    folder: Path
    by_hand: bool = False
    """Whether it is to outlive the process that starts it."""

    @property
    def jobs(self) -> Path:
        """The file to which the controller adds a line for each job that has ended."""
        return self.folder / "jobs.txt"

    def gpus(self) -> dict[str, list[str]]:
        """Return the GPUs that each job had, by its number."""
        lines = [line.split() for line in (self.folder / "gpus.txt").read_text().splitlines()]
        return {job: gpus[0].split(",") if gpus else [] for job, *gpus in lines}

    def ended(self) -> list[dict[str, str]]:
        """Return what the controller noted of each job that has ended, or was put back into the queue."""
        if not self.jobs.exists():
            return []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in self.jobs.read_text().splitlines()]

    def start(self) -> None:
        """Start the three daemons and wait for the node; raises CannotStart."""
        require_slurm()
        for name in ("controller", "node"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._write_settings()
        try:
            self._run(
                "munged", "--force", f"--key-file={self._key()}", f"--socket={self.folder}/munge.socket",
                f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
                f"--seed-file={self.folder}/munge.seed",
            )  # fmt: skip
            self._run("slurmctld")
            # A node that finds no controller waits longer and longer before it asks again.
            self._wait_until("the controller answers", lambda: " is UP" in ask("scontrol", "ping"))
            self._run("slurmd")
            self._wait_until("the node is idle", lambda: ask("sinfo", "--noheader", "--format=%T") == "idle")
        except CannotStart:
            self.stop()
            raise

    def stop(self) -> None:
        """Cancel what runs, end the daemons and delete their settings."""
        if (self.folder / "slurmctld.pid").exists():
            ask("scancel", "--user=root")
            until = time.monotonic() + 30
            while ask("squeue", "--noheader") and time.monotonic() < until:
                time.sleep(0.5)
        for daemon in ("slurmd", "slurmctld", "munged"):
            _end(self.folder / f"{daemon}.pid")
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            if _is_ours(SETTINGS / name):
                (SETTINGS / name).unlink()

    def _key(self) -> Path:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        return key

    def _write_settings(self) -> None:
        host = socket.gethostname().split(".")[0]
        controller_port, node_port = _free_ports(2)
        text = SLURM_CONF.format(
            ours=OURS, starter=STARTER, process="by hand" if self.by_hand else os.getpid(), host=host,
            folder=self.folder, controller_port=controller_port, node_port=node_port, cpus=CPUS, memory=MEMORY_MB,
            gpus=len(DEVICES),
        )  # fmt: skip
        SETTINGS.mkdir(exist_ok=True)
        (SETTINGS / "gres.conf").write_text(f"{OURS}\nNodeName={host} Name=gpu File={','.join(DEVICES)}\n")
        (SETTINGS / "cgroup.conf").write_text(f"{OURS}\nCgroupAutomount=no\nConstrainCores=no\n")
        note = self.folder / "note_gpus"
        note.write_text(NOTE_GPUS.format(folder=self.folder))
        note.chmod(0o755)
        # Last, because it is what others look at.
        (SETTINGS / "slurm.conf").write_text(text)

    def _run(self, *command: str) -> None:
        """Run what starts a daemon; raises CannotStart with what it wrote."""
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            raise CannotStart(f"{command[0]} did not start within 3 minutes{self._last_words()}") from None
        if shown.returncode != 0:
            raise CannotStart(f"{command[0]} ended with {shown.returncode}: {(shown.stdout + shown.stderr).strip()}")

    def _wait_until(self, what: str, reached: Callable[[], bool], seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > until:
                raise CannotStart(f"waited {seconds:g} s in vain until {what}{self._last_words()}")
            time.sleep(0.3)

    def _last_words(self) -> str:
        """Return the last line that each daemon wrote."""
        logs = [self.folder / f"{daemon}.log" for daemon in ("munged", "slurmctld", "slurmd")]
        lines = [(log.stem, log.read_text().splitlines()) for log in logs if log.exists()]
        return "".join(f"; {daemon}: {written[-1]}" for daemon, written in lines if written)


def require_slurm() -> None:
    """Raise CannotStart, with the reason, where Slurm is not installed, not allowed or in use."""
    if os.geteuid() != 0:
        raise CannotStart("a Slurm of its own is started by root alone")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise CannotStart(f"not installed: {', '.join(missing)} (packages slurm-wlm and munge)")
    settings = SETTINGS / "slurm.conf"
    if settings.exists() and not _is_ours(settings):
        raise CannotStart(f"{settings} is that of another Slurm")
    if settings.exists():
        text = settings.read_text()
        (folder,) = re.findall(r"^SlurmdSpoolDir=(.*)/node$", text, re.M)
        starter = text.partition(STARTER)[2].partition("\n")[0]
        if starter == "by hand" or Path(f"/proc/{starter}").exists():
            raise CannotStart(f"another one runs: `python -m tests.cluster.slurm stop {folder}` ends it")
        Slurm(Path(folder)).stop()


def install_slurm() -> None:
    """Install Debian's packages of Slurm and munge; raises CannotStart."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotStart("Slurm is not installed, and only root on a Debian can install it here")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    patient = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")
    for command in ((*patient, "update"), (*patient, "install", "-y", "--no-install-recommends", "slurm-wlm", "munge")):
        try:
            shown = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired:
            raise CannotStart(f"`{' '.join(command)}` took more than 10 minutes") from None
        if shown.returncode != 0:
            raise CannotStart(f"`{' '.join(command)}` failed: {shown.stderr.strip()[-300:]}")


def _is_ours(file: Path) -> bool:
    return file.is_file() and file.read_text().startswith(OURS)


def ask(*command: str) -> str:
    """Return what one of Slurm's commands prints; nothing where it fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end(pid_file: Path) -> None:
    """End the daemon whose number a file holds, and wait until it has gone."""
    if not pid_file.exists() or not (text := pid_file.read_text().strip()):
        return
    try:
        os.kill(int(text), signal.SIGTERM)
        for _ in range(50):
            os.kill(int(text), 0)
            time.sleep(0.1)
        os.kill(int(text), signal.SIGKILL)
    except ProcessLookupError:
        pass
    pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit("python -m tests.cluster.slurm start|stop FOLDER")
    slurm = Slurm(Path(sys.argv[2]).resolve(), by_hand=True)
    try:
        slurm.start() if sys.argv[1] == "start" else slurm.stop()
    except CannotStart as reason:
        sys.exit(f"no Slurm: {reason}")
