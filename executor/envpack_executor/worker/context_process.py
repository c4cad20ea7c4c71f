"""A context process as its host sees it, and how one is started: descriptors, shared words, process group.

Guarantees: a process that cannot be started leaves no descriptor behind; one that is reaped leaves nothing that it has
started in its group.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import time
from collections import deque
from typing import NamedTuple

from envpack_executor.messages import ProcessId
from envpack_executor.process import frames
from envpack_executor.process.bundle import command
from envpack_executor.worker.prints import Prints

_LAST_WORDS_BYTES = 4096
# What may be over soon: others hold all descriptors, processes or memory that there are.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
_PATIENCE_S = 5.0
PROGRESS_BYTES = 48  # six words, see `process.child`
NO_CALL = (1 << 64) - 1


class Words(NamedTuple):
    """What a context process says about the call that runs in it, for whoever may have to end it.

    Args:
        number: of the call, or of the last one; `NO_CALL` before the first.
        started_ns: on the monotonic clock; 0 between batches.
        child: pid of its child, or 1 before there is one; 0 for a call in the process itself.
        deadline_ns: when it has run too long, on that clock; 0 without. Only for a call in the process itself, as the
            following ones.
        memory_bytes: how much memory the process may have with all that it has started; 0 without.
        is_wall: the deadline follows from a limit of `@monitor`, not from `timeout_s`.
    """

    number: int
    started_ns: int
    child: int
    deadline_ns: int
    memory_bytes: int
    is_wall: int

    @property
    def begun(self) -> int:
        """How many calls have begun or will never begin: the number after that of the last one that began."""
        return 0 if self.number == NO_CALL else self.number + 1


class ContextProcess:
    """A running context process as its host sees it.

    Args:
        process: its id.
        popen: the operating system's process, leader of a process group of its own.
        connection: our end of the socket pair, non-blocking.
        control: the write end of the pipe that takes commands.
        lifeline: the write end of the pipe that keeps it alive.
        progress: the shared words, see `process.child`.
        output: the memory file with the end of what it wrote to stderr.
        prints: the pipe for all that its calls print; None where nobody wants to know.
    """

    def __init__(
        self,
        process: ProcessId,
        popen: subprocess.Popen[bytes],
        connection: socket.socket,
        control: int,
        lifeline: int,
        progress: mmap.mmap,
        output: int,
        prints: Prints | None,
    ) -> None:
        self.process = process
        self.popen = popen
        self.connection = connection
        self.pidfd = os.pidfd_open(popen.pid)
        self.frames = frames.FrameBuffer()
        self.unsent: deque[memoryview] = deque()
        self.is_closing = False
        self.kill_at_s: float | None = None
        self.seen = (0, -1)
        self.files: deque[int] = deque()  # descriptors that have come before the frames that tell what they are
        self._control = control
        self._lifeline = lifeline
        self._progress = progress
        self._output = output
        self.prints = prints

    @property
    def running_call(self) -> int:
        """Number of the call that runs, -1 between calls."""
        with memoryview(self._progress) as raw, raw.cast("Q") as words:
            return words[0] if words[1] else -1

    def words(self) -> Words:
        """Return what the process says about the call that runs."""
        with memoryview(self._progress) as raw, raw.cast("Q") as words:
            return Words(*words)

    def kill(self) -> None:
        """Kill the process and all of its group; harmless when it has ended but was not reaped."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.popen.kill()

    def command(self, kind: int, number: int) -> None:
        """Send a command of `process.frames`, which is heard whatever the process is doing."""
        try:
            os.write(self._control, frames.COMMAND.pack(kind, number))
        except (BrokenPipeError, BlockingIOError):
            pass  # it has ended, as the pidfd will say; or it has not listened to thousands of commands

    def last_words(self) -> str:
        """Return the end of what it wrote to stderr."""
        size = os.fstat(self._output).st_size
        data = os.pread(self._output, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        return data.decode("utf-8", "backslashreplace").strip()

    def reap(self) -> int:
        """Kill what is left of the group, wait for the process, free everything; return its exit status."""
        self.kill()
        status = self.popen.wait()
        self.connection.close()
        os.close(self.pidfd)
        os.close(self._control)
        os.close(self._lifeline)
        os.close(self._output)
        if self.prints is not None:
            self.prints.close()
        self._progress.close()
        while self.files:
            os.close(self.files.popleft())
        return status


def spawn(
    process: ProcessId, python: str, is_isolated: bool, environ: dict[str, str], is_streamed: bool = False
) -> ContextProcess:
    """Start a context process with the interpreter `python`.

    Raises:
        OSError: it cannot be executed.
    """
    ours, theirs = socket.socketpair()
    control_end, control = os.pipe()
    lifeline_end, lifeline = os.pipe()
    progress = os.memfd_create("envpack-progress")
    output = os.memfd_create("envpack-output")
    prints = prints_end = -1
    try:
        os.write(progress, NO_CALL.to_bytes(8, "little") + bytes(PROGRESS_BYTES - 8))
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)
        if is_streamed:
            prints, prints_end = os.pipe()
            os.set_blocking(prints, False)
        inherited = (theirs.fileno(), control_end, lifeline_end, progress, output, prints_end)
        popen = subprocess.Popen(
            command(python, is_isolated, inherited),
            pass_fds=[each for each in inherited if each >= 0],
            stdin=subprocess.DEVNULL,
            # No session of its own: schedulers that share out time by session would let it wait behind everybody else.
            process_group=0,
            env=environ,
        )
        ours.setblocking(False)
        os.set_blocking(control, False)
        words = mmap.mmap(progress, PROGRESS_BYTES)
        told = Prints(prints) if is_streamed else None
        return ContextProcess(process, popen, ours, control, lifeline, words, output, told)
    except BaseException:
        ours.close()
        os.close(control)
        os.close(lifeline)
        os.close(output)
        if prints >= 0:
            os.close(prints)
        raise
    finally:
        theirs.close()
        os.close(control_end)
        os.close(lifeline_end)
        os.close(progress)
        if prints_end >= 0:
            os.close(prints_end)


def spawn_patiently(
    process: ProcessId, python: str, is_isolated: bool, environ: dict[str, str], is_streamed: bool
) -> ContextProcess:
    """Start a context process; wait a while for descriptors, processes or memory of which there are none left."""
    give_up_at_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return spawn(process, python, is_isolated, environ, is_streamed)
        except OSError as error:
            if error.errno not in _PASSING or time.monotonic() > give_up_at_s:
                raise
        time.sleep(_PATIENCE_S / 100)
