"""A lease: an ordinary task of Dask in whose place a worker of ours runs, until it leaves.

    Dask's scheduler ──places──▶ thread of a Dask worker: `hold` ──starts──▶ envpack worker ──joins──▶ the executor
                                    │ waits: the slot is taken                  │
                                    ◀───────────────── leaves ──────────────────┘

So whatever Dask knows to do with tasks it does with leases: queue them, place them by resources and priority, let its
cluster grow for them, run them again elsewhere when their worker is lost.

Guarantees: the worker does not outlive the Dask worker that started it (it leaves when its standard input ends, which
the kernel sees to); the key is in no command line and in no file with a name.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import IO

from distributed import get_worker

from envpack_executor.blocks import WorkerCommand
from envpack_executor.blocks.source import PROGRAM
from envpack_executor.errors import LeaseError

_LAST_WORDS_BYTES = 2000
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Lease:
    """What a Dask worker is asked for.

    Args:
        name: of the lease, as Dask knows its task.
        command: that starts the worker; its own program stands for the interpreter of the Dask worker.
        key: what stands in the key file. Not shown: Dask writes the arguments of tasks into its logs.
    """

    name: str
    command: WorkerCommand
    key: str = field(repr=False)


class _Held:
    """The leases of this process, so that they can be ended from outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)

    def is_ended(self, name: str) -> bool:
        """Tell whether a lease was ended from outside."""
        with self._lock:
            return name in self._ended

    @contextlib.contextmanager
    def noted(self, name: str, worker: subprocess.Popen[bytes]) -> Iterator[None]:
        """Know the worker of a lease while it runs."""
        with self._lock:
            self._workers[name] = worker
        if self.is_ended(name):
            worker.terminate()
        try:
            yield
        finally:
            with self._lock:
                self._workers.pop(name, None)

    def end(self, names: Iterable[str]) -> None:
        """End workers, now or as soon as they are started."""
        with self._lock:
            self._ended.extend(names)
            workers = [self._workers[name] for name in names if name in self._workers]
        for worker in workers:
            worker.terminate()


_held = _Held()


def hold(lease: Lease) -> None:
    """Run a worker until it leaves; Dask calls this in a thread of one of its workers.

    Raises:
        LeaseError: it ended with an error.
    """
    if _held.is_ended(lease.name):
        return
    with _key_file(lease.key) as key, tempfile.TemporaryFile() as errors:
        words = _command_here(lease.command).words(f"/proc/self/fd/{key}")
        worker = subprocess.Popen([*words, "--until-eof"], stdin=subprocess.PIPE, stderr=errors, pass_fds=[key])
        with worker, _held.noted(lease.name, worker):
            status = worker.wait()
        if status and not _held.is_ended(lease.name):
            raise LeaseError(f"worker of {lease.name} ended with exit status {status}: {_last_words(errors)}")


def end(names: Iterable[str]) -> None:
    """End leases that this process holds or is about to hold; Dask calls this in each of its workers."""
    _held.end(list(names))


@contextlib.contextmanager
def _key_file(key: str) -> Iterator[int]:
    """Yield the descriptor of a file in memory with the key, for the worker that inherits it and nobody else."""
    descriptor = os.memfd_create("envpack-key")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, key.encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _command_here(command: WorkerCommand) -> WorkerCommand:
    """Return the command for this machine: its interpreter, and as much memory as Dask gives to the slots."""
    options = command.options
    if options.program == PROGRAM or not options.program:
        options = replace(options, program=(sys.executable, *PROGRAM[1:]))
    worker = get_worker()
    limit_bytes = worker.memory_manager.memory_limit
    if options.memory is None and limit_bytes:
        share = min(1.0, (options.cores or 1) / worker.state.nthreads)
        options = replace(options, memory=int(limit_bytes * share))
    return replace(command, options=options)


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
    return errors.read().decode(errors="replace").strip() or "it wrote nothing to stderr"
