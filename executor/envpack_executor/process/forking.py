"""A call in a child of the context process: it has everything that the set-up made, and what it does to it is its own.

    context process                                   child, in a process group of its own
      fork ──────────────────────────────────────────▶ bracket, call, bracket
      wait for the outcome, the end, a limit
           ◀──────── readings, outcome ─────────────── write, leave at once
      kill the group, wait for the child

Guarantees: the context process never waits for more than the child's life; whatever ends the child (`os._exit`, a
signal, a limit, the host) ends only it and what it has started; nothing of the child outlives the host. Assumes that no
threads but ours run in this process, which is looked at before. Standard library only.
"""

from __future__ import annotations

import _thread
import gc
import os
import sys
from _signal import SIGKILL  # type: ignore[import-not-found]
from typing import Any, NoReturn

from envpack_executor.process.control import die_with
from envpack_executor.process.functions import Function
from envpack_executor.process.outcomes import Failure, Outcome, flush_streams, refusal, run, send_files_by
from envpack_executor.process.waiting import Watch, send
from envpack_monitor.isolated.forked import ForkedBracket

# Stands in the words where the pid of the child will, from before the call is named there.
FORKING = 1
_BROKEN_STATUS = 70


class Ended:
    """How a child ended that has sent no outcome.

    Args:
        status: what it exited with, minus the signal that killed it.
        reason: why it was killed, if we did it: `timeout`, or `ended` when the host asked for it; empty otherwise.
        ran_s: how long it ran, in seconds.
    """

    __slots__ = ("ran_s", "reason", "status")

    def __init__(self, status: int, reason: str, ran_s: float) -> None:
        self.status = status
        self.reason = reason
        self.ran_s = ran_s


class Forks:
    """Runs calls in children, one at a time.

    Args:
        progress: the words that are shared with the host.
        lifeline: reading end of the pipe that is closed when the host is gone.
        connection: the socket to the host, which a child must not keep open.
        own_threads: the kernel's numbers of the threads that may run beside a fork.

    Attributes:
        is_safe: it was looked at, and nothing ran since that could have started a thread.
        is_frozen: the collector has been told that what is there stays.
    """

    def __init__(self, progress: memoryview, lifeline: int, connection: int, own_threads: set[int]) -> None:
        import select  # most processes never fork

        self.is_safe = self.is_frozen = False
        self._progress = progress
        self._lifeline = lifeline
        self._connection = connection
        self._own_threads = own_threads
        self._poll = select.poll()
        self._changing = _thread.allocate_lock()
        self._child = 0
        self._number = -1
        self._is_ended = False

    def refused(self) -> Failure | None:
        """Look whether a child can be made safely; return the failure of a call that needs one if not."""
        if not self.is_frozen:
            gc.freeze()  # what is there now is not looked at, and so not copied, by the collector of each child
            self.is_frozen = True
        names = self._foreign_threads()
        if names:
            # Some libraries end their threads when a fork comes, and start them again when they need them.
            if (pid := _fork()) == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            names = self._foreign_threads()
        self.is_safe = not names
        if not names:
            return None
        return refusal(
            "ForkUnsafeError",
            f"a fork is not safe beside other threads, and this context process has {len(names)}: {', '.join(names)}"
            " (end them in the set-up, or declare mode='direct' or mode='fresh')",
        )

    def run(self, function: Function, payload: bytes, number: int) -> tuple[Outcome | Ended, dict[str, Any], int]:
        """Run a call in a child; return what came of it, its figures, and the pid."""
        flush_streams()
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        pid = _fork()
        if pid == 0:
            os.close(read_end)
            self._be_child(function, payload, write_end)
        os.close(write_end)
        self._progress[2] = pid
        with self._changing:
            self._number, self._child, self._is_ended = number, pid, False
        watch = Watch(function, pid, read_end)
        try:
            watch.until_done(self._poll)
        finally:
            os.close(read_end)
            status = self._bury(pid)
        return self._outcome(watch, status), watch.figures(), pid

    def end(self, number: int) -> None:
        """Kill the child of a call, from any thread, if it is the one that runs."""
        with self._changing:
            if self._child and self._number == number:
                self._is_ended = True
                os.kill(self._child, SIGKILL)

    def _outcome(self, watch: Watch, status: int) -> Outcome | Ended:
        arrival = watch.arrival
        if arrival.is_complete and arrival.about is not None:
            _, failure, has_payload = arrival.about
            return arrival.payload if has_payload else failure
        return Ended(status, "ended" if self._is_ended else watch.reason, watch.ran_s)

    def _bury(self, pid: int) -> int:
        """Kill what is left of a child and of its group, and wait for it; return its status."""
        with self._changing:
            self._child = 0  # from here on its number may become that of another process
        try:
            os.killpg(pid, SIGKILL)
        except ProcessLookupError:
            os.kill(pid, SIGKILL)  # it has no group of its own yet
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _be_child(self, function: Function, payload: bytes, write_end: int) -> NoReturn:
        status = _BROKEN_STATUS
        try:
            pid = os.getpid()
            os.setpgid(0, 0)
            self._depend_on_host(pid)
            os.close(self._connection)
            send_files_by(None)  # what is large goes through the pipe, as everything else
            bracket = ForkedBracket()
            bracket.start()
            outcome = run(function, payload)
            if os.getpid() != pid:
                os._exit(0)  # the call has forked and come back from it: there is one outcome, not two
            readings = bracket.stop()
            flush_streams()
            send(write_end, readings, outcome)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _depend_on_host(self, group: int) -> None:
        try:
            die_with(self._lifeline, group)
        except OSError:
            _thread.start_new_thread(_watch_lifeline, (self._lifeline, group))

    def _foreign_threads(self) -> list[str]:
        """Return the names of threads that are not ours."""
        found = [int(name) for name in os.listdir("/proc/self/task")]
        foreign = [number for number in found if number not in self._own_threads]
        if not foreign:
            return []
        threading = sys.modules.get("threading")
        known = [] if threading is None else threading.enumerate()
        names = {thread.native_id: repr(thread.name) for thread in known}
        return [names.get(number) or _native_name(number) for number in foreign]


def _watch_lifeline(lifeline: int, group: int) -> None:
    os.read(lifeline, 1)
    os.killpg(group, SIGKILL)


def _native_name(number: int) -> str:
    """Return what the kernel calls a thread that Python does not know."""
    try:
        with open(f"/proc/self/task/{number}/comm", encoding="utf-8", errors="replace") as file:
            return f"native thread {file.read().strip()!r}"
    except OSError:
        return "a native thread"


if sys.version_info >= (3, 12):
    import warnings

    def _fork() -> int:
        with warnings.catch_warnings():
            # Python warns where threads run. Ours only wait, and the child needs none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()

else:
    _fork = os.fork
