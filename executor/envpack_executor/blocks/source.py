"""What supplies blocks: one Protocol, and the values in which blocks are asked for and spoken of.

A *block* is what a source allocates at once, such as a batch job: a worker on each of its machines, all started by one
command. Not to be confused with a *node*, which is one worker that has joined.
"""

from __future__ import annotations

import enum
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# `-P`: what lies in the folder of the job must not hide a module of the worker.
PROGRAM = (sys.executable, "-P", "-m", "envpack")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What every worker of a source is told besides where to join; None is left to the worker.

    Args:
        cores: calls at once.
        memory: what calls may have together, in bytes or as `"16GB"`.
        context_memory: what warm processes may keep together, likewise.
        disk: what calls that ask for disk may write together, likewise.
        gpus: how many GPUs calls may use.
        store: folder of the store of layers there; `{NAME}` stands for that environment variable there, `{host}` for
            the name of the machine.
        wall_time_s: it is gone after so long; drained before.
        grace_s: how long before that it takes no more calls.
        join_within_s: how long it waits for an answer.
        program: the words that start `envpack` there.
    """

    cores: int | None = None
    memory: int | str | None = None
    context_memory: int | str | None = None
    disk: int | str | None = None
    gpus: int = 0
    store: str | None = None
    wall_time_s: float | None = None
    grace_s: float | None = None
    join_within_s: float | None = None
    program: tuple[str, ...] = PROGRAM

    def words(self) -> tuple[str, ...]:
        """Return them as options of `envpack worker`."""
        said = {
            "--cores": self.cores,
            "--memory": self.memory,
            "--context-memory": self.context_memory,
            "--disk": self.disk,
            "--gpus": self.gpus or None,
            "--store": self.store,
            "--wall-time": _seconds(self.wall_time_s),
            "--grace": _seconds(self.grace_s),
            "--join-within": _seconds(self.join_within_s),
        }
        return tuple(word for name, value in said.items() if value is not None for word in (name, str(value)))


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How each worker of a block is started. The key itself is in no word of it, only where its file is.

    Args:
        address: where the manager listens.
        key_file: with the workers' key, mode 600.
        block: what the worker says that it belongs to.
        options: what else it is told.
    """

    address: str
    key_file: str
    block: str
    options: WorkerOptions = WorkerOptions()

    def words(self, key_file: str | None = None) -> tuple[str, ...]:
        """Return the words of the command.

        Args:
            key_file: where the key is on the worker's machine; where it is here by default.
        """
        place = ("--connect", self.address, "--key", key_file or self.key_file, "--block", self.block)
        return (*self.options.program, "worker", *place, *self.options.words())

    def __str__(self) -> str:
        """Return it as a line for a shell."""
        return shlex.join(self.words())


class JobState(enum.Enum):
    """What a source says about a job."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It cannot say at the moment: nothing is concluded from that."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a source says about a job, and what else is known: how it ended, or the end of what it wrote to stderr."""

    state: JobState
    detail: str = ""


class BlockSource(Protocol):
    """Allocates blocks. All of it is called from one thread, not that of the executor; it may take seconds.

    Attributes:
        name: for messages to people.
        slots_per_block: how many calls run at once in a block, as far as is known before the first has joined; 0 if
            nothing is.
        poll_every_s: how often `poll` may be asked.
    """

    name: str
    slots_per_block: int
    poll_every_s: float

    def submit(self, block: str, command: WorkerCommand) -> str:
        """Ask for a block in which `command` runs on each machine; return how the source calls the job.

        Any exception means that there is no such block; its text is shown to the user.
        """

    def poll(self, jobs: Sequence[str]) -> Sequence[JobStatus]:
        """Return what is known of each job, in their order."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, whether they run or still wait."""

    def close(self) -> None:
        """Free what the source itself holds; every job has ended or was cancelled."""


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:g}s"
