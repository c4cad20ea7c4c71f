"""A Parsl provider as a source of blocks: its jobs run our workers, and Parsl's data-flow kernel is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parsl.jobs.states import JobState as ParslState
from parsl.jobs.states import JobStatus as ParslStatus
from parsl.providers.base import ExecutionProvider

from envpack_executor.blocks.source import JobState, JobStatus, WorkerCommand
from envpack_executor.errors import ExecutorError

_STATES = {
    ParslState.UNKNOWN: JobState.UNKNOWN,
    ParslState.PENDING: JobState.PENDING,
    ParslState.HELD: JobState.PENDING,
    ParslState.RUNNING: JobState.RUNNING,
    ParslState.COMPLETED: JobState.ENDED,
    ParslState.CANCELLED: JobState.ENDED,
    ParslState.SCALED_IN: JobState.ENDED,
    ParslState.TIMEOUT: JobState.ENDED,
    ParslState.FAILED: JobState.FAILED,
    ParslState.MISSING: JobState.FAILED,
}
# Of what a job wrote to stderr; what went wrong stands at the end.
LAST_WORDS = 500


class ProviderSource:
    """Allocates blocks by a provider.

    Args:
        provider: any of Parsl's, with any launcher; its `script_dir` is set to `folder`.
        folder: for the scripts and the output of jobs; all nodes must see it.
        slots_per_node: how many calls run at once on a node; what the provider says by default, 0 for unknown.
    """

    def __init__(self, provider: ExecutionProvider, folder: str, slots_per_node: int | None = None) -> None:
        slots = slots_per_node or getattr(provider, "cores_per_node", None) or 0
        self.name = type(provider).__name__
        self.slots_per_block = int(slots) * provider.nodes_per_block
        self.poll_every_s = float(provider.status_polling_interval)
        self._provider = provider
        self._jobs: dict[str, Any] = {}
        provider.script_dir = folder

    def submit(self, block: str, command: WorkerCommand) -> str:
        """Submit a job that runs the worker on each of its machines.

        Raises:
            ExecutorError: the provider has refused without saying why.
            Exception: whatever the provider raises.
        """
        job = self._provider.submit(str(command), 1, f"envpack.{block}")
        if not job:
            raise ExecutorError("no job was made, and no reason given", "Parsl's log may say more")
        self._jobs[str(job)] = job
        return str(job)

    def poll(self, jobs: Sequence[str]) -> list[JobStatus]:
        """Return what the provider knows of jobs."""
        return [_translated(status) for status in self._provider.status([self._jobs[job] for job in jobs])]

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs.

        Raises:
            ExecutorError: the provider could not.
        """
        done = self._provider.cancel([self._jobs[job] for job in jobs])
        if not all(done):
            raise ExecutorError(f"{sum(not each for each in done)} of {len(jobs)} jobs could not be cancelled")

    def close(self) -> None:
        """Do nothing: a provider holds nothing but the numbers of its jobs."""


def _translated(status: ParslStatus) -> JobStatus:
    state = _STATES.get(status.state, JobState.UNKNOWN)
    if state in (JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN):
        return JobStatus(state, status.message or "")
    return JobStatus(state, ", ".join(filter(None, (_how(status), status.message, _last_words(status)))))


def _how(status: ParslStatus) -> str:
    if status.state is ParslState.TIMEOUT:
        return "its wall time is over"
    if status.state is ParslState.CANCELLED:
        return "it was cancelled"
    return f"exit code {status.exit_code}" if status.exit_code else ""


def _last_words(status: ParslStatus) -> str:
    """Return the end of what a job wrote to stderr."""
    text = (status.stderr_summary or "").strip()
    return f"its last words: {text[-LAST_WORDS:]!r}" if text else ""
