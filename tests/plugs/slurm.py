"""A real Slurm with several nodes on this machine, begun and ended by the tests themselves.

    with Slurm() as slurm:
        slurm.run("sbatch", "--wrap", "hostname")

    python -m tests.plugs.slurm COMMAND...  # runs a command, a shell by default, that finds such a Slurm

Every daemon runs in the foreground as a child of this process: munge with a key of its own, slurmctld, and a slurmd per
node, all on loopback and on free ports, in a folder of their own. Beside a Slurm that is installed and running they
disturb nothing: `SLURM_CONF` chooses between the two. What jobs have started is found by that variable in the end,
so that nothing is left behind even when a slurmd was killed under them.

A node has more memory and cores than it could have of this machine, on paper: Slurm is asked to believe it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.executor.helpers import environ, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
UP_S = 60.0
DOWN_S = 60.0
MEMORY_MB = 32_000

# One setting a line; what is not said here is Slurm's default. The short intervals let a test see in seconds what takes
# minutes on a cluster: a node that is silent for 5 s is down, and what is cancelled is killed 2 s later.
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
SlurmctldTimeout=30
SlurmdTimeout=5
KillWait=2
EpilogMsgTime=0
CompleteWait=0
InactiveLimit=0
MinJobAge=600
ReturnToService=2
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} RealMemory={memory}\n"
PARTITION = "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP DefMemPerCPU={memory}\n"


def why_not() -> str | None:
    """Return why no Slurm can be started here, None where one can."""
    missing = [name for name in PROGRAMS if _found(name) is None]
    if missing:
        return f"needs {', '.join(missing)}: make slurm-tools installs Slurm and munge on Debian"
    if os.geteuid():
        return "needs root: Slurm's daemons start the jobs of users"
    return None


class Slurm:
    """A Slurm that runs from `with` to its end.

    Args:
        nodes: how many; they are called n1, n2 and so on.
        cores: of each node, on paper.
    """

    def __init__(self, nodes: int = 2, cores: int = 2) -> None:
        self.names = tuple(f"n{number + 1}" for number in range(nodes))
        self._cores = cores
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        # Not in TMPDIR, which may be the folder of a test: a socket's path has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.configuration = self.folder / "slurm.conf"

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables by which Slurm's commands find this one, and jobs, which inherit them, this project."""
        return {"SLURM_CONF": str(self.configuration), "PYTHONPATH": environ()["PYTHONPATH"]}

    def __enter__(self) -> Slurm:
        """Start all daemons and wait until every node takes jobs."""
        try:
            self._write()
            self._start("munged", "--foreground", "--force", *self._munge_options())
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged listens", UP_S)
            self._start("slurmctld", "-D", "-c")
            for name in self.names:
                self.start_node(name)
            self._wait(self.is_idle, "every node is idle", UP_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self.close()

    def close(self) -> None:
        """End the daemons and whatever jobs have started, and remove the folder."""
        try:
            for program in reversed(tuple(self._daemons)):
                self._end(program)
            wait_until(lambda: not self._end_strays(), "what jobs have started has ended", DOWN_S)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- asking and telling

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints.

        Raises:
            AssertionError: it fails; with what it has said.
        """
        done = subprocess.run(
            words, env={**os.environ, **self.environ}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit a line of shell and return the number of its job."""
        output = f"--output={self.folder}/job-%j.out"
        return self.run("sbatch", "--parsable", output, *options, "--wrap", script).strip()

    def output(self, job: str) -> str:
        """Return what a job of `submit` has printed so far."""
        return (self.folder / f"job-{job}.out").read_text()

    def states(self) -> dict[str, str]:
        """Return the state of each job that Slurm remembers, such as RUNNING."""
        lines = self.run("squeue", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def jobs(self) -> list[str]:
        """Return the jobs that wait, run or end just now."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def nodes_of(self, job: str) -> list[str]:
        """Return the names of the nodes that a job runs on."""
        listed = self.run("squeue", "--noheader", f"--job={job}", "--format=%N").strip()
        return self.run("scontrol", "show", "hostnames", listed).split() if listed else []

    def is_idle(self) -> bool:
        """Tell whether every node is up and has nothing to do."""
        try:
            states = self.run("sinfo", "--noheader", "--Node", "--format=%T").split()
        except (AssertionError, subprocess.TimeoutExpired):
            return False  # it does not listen yet
        return states == ["idle"] * len(self.names)

    def wait_until_idle(self) -> None:
        """Wait until no job is left."""
        self._wait(lambda: not self.jobs(), lambda: f"jobs have ended: {self.states()}", DOWN_S)
        self._wait(self.is_idle, "every node is idle", UP_S)

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left."""
        if jobs := self.jobs():
            self.run("scancel", *jobs)
        self.wait_until_idle()

    # --- nodes

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        (self.folder / f"spool-{name}").mkdir(exist_ok=True)
        self._start("slurmd", "-D", "-N", name, key=f"slurmd {name}")

    def kill_node(self, name: str) -> None:
        """Kill the slurmd of a node, as a crash does; what its jobs have started runs on."""
        daemon = self._daemons.pop(f"slurmd {name}")
        daemon.kill()
        daemon.wait()

    def crash_node(self, name: str) -> None:
        """Kill the slurmd of a node and everything that runs there, as a power failure does."""
        self.kill_node(name)
        wait_until(lambda: not self._end_strays(f"SLURMD_NODENAME={name}"), "all that ran there has ended", DOWN_S)

    # --- daemons

    def _write(self) -> None:
        self.folder.chmod(0o755)  # munge lets others look for its socket
        for name in ("state", "munge"):
            (self.folder / name).mkdir(mode=0o700)
        key = self.folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(1 + len(self.names))
        nodes = [
            NODE.format(name=name, host=host, port=port, cores=self._cores, memory=MEMORY_MB)
            for name, port in zip(self.names, ports, strict=True)
        ]
        text = CONFIGURATION.format(host=host, port=port, folder=self.folder)
        partition = PARTITION.format(memory=MEMORY_MB // self._cores)
        self.configuration.write_text(text + "".join(nodes) + partition)

    def _munge_options(self) -> list[str]:
        folder = self.folder / "munge"
        files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [f"--socket={self.folder}/munge.socket", *(f"--{name}={folder / file}" for name, file in files.items())]

    def _start(self, program: str, *words: str, key: str | None = None) -> None:
        path = _found(program)
        assert path is not None, program
        with (self.folder / f"{program}.err").open("ab") as errors:
            self._daemons[key or program] = subprocess.Popen(
                [path, *words],
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=self.folder,
            )

    def _end(self, key: str) -> None:
        daemon = self._daemons.pop(key)
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            raise

    def _wait(self, condition: Callable[[], bool], what: str | Callable[[], str], deadline_s: float) -> None:
        def is_so() -> bool:
            for key, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{key} ended with {daemon.returncode}: {self.said()}"
            return condition() or bool(time.sleep(0.05))  # each look starts a program

        wait_until(is_so, lambda: f"{what if isinstance(what, str) else what()}: {self.said()}", deadline_s)

    def said(self) -> str:
        """Return the last of what each daemon has written, for a failure."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("*.err"), *self.folder.glob("munge/log")]
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in files)

    def _end_strays(self, variable: str = "SLURM_JOB_ID=") -> bool:
        """Kill what jobs have started, of those with a variable that begins so; tell whether there was any."""
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        steps = [pid for pid in numbers if self._is_a_step(pid)] if variable == "SLURM_JOB_ID=" else []
        strays = [*steps, *(pid for pid in numbers if self._is_of_a_job(pid, variable.encode()))]
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(strays)

    def _is_a_step(self, pid: int) -> bool:
        """Tell whether it is Slurm's process over those of a job: its variables are gone under its title."""
        folder = Path("/proc") / str(pid)
        try:
            if (folder / "comm").read_text() != "slurmstepd\n":
                return False
            return any(os.readlink(file).startswith(f"{self.folder}/") for file in (folder / "fd").iterdir())
        except OSError:
            return False  # it has ended

    def _is_of_a_job(self, pid: int, variable: bytes) -> bool:
        try:
            words = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return False  # it has ended
        ours = f"SLURM_CONF={self.configuration}".encode()
        return ours in words and any(word.startswith(variable) for word in words)


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> int:
    """Run a command beside a Slurm of two nodes; return its exit status."""
    if (reason := why_not()) is not None:
        raise SystemExit(reason)
    with Slurm() as slurm:
        variables = {**os.environ, "SLURM_CONF": str(slurm.configuration)}
        command = sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(command, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
