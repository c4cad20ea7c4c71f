"""What a context process does while the child of a call runs: wait for its outcome, its end, or a limit. Standard
library only.

What a child sends is a header, the readings of its measure with what kind of end it was, and the pickled result.
"""

from __future__ import annotations

import errno
import marshal
import os
import struct
import time
from time import monotonic_ns
from typing import Any

from envpack_executor.process.functions import Function
from envpack_executor.process.looks import look
from envpack_executor.process.outcomes import Failure, Outcome
from envpack_monitor.isolated.forked import Readings, figures

LOOK_EVERY_NS = 25_000_000
_READABLE = 1  # `select.POLLIN`
_HEADER = struct.Struct("<QQ")
_CHUNK_BYTES = 1 << 16
_WIDE_PIPE_BYTES = 1 << 20
_SAMPLED = frozenset({"memory_bytes", "cpu_s", "processes"})
_FIGURES = {"memory_bytes": "peak_memory_bytes", "processes": "processes_max"}


def send(pipe: int, readings: Readings, outcome: Outcome) -> None:
    """Write what came of a call; in the child."""
    payload: bytes | bytearray = b""
    if isinstance(outcome, bytes | bytearray):
        about, payload = marshal.dumps((readings, None, True)), outcome
    else:
        about = marshal.dumps((readings, outcome, False))
    head = _HEADER.pack(len(about), len(payload)) + about
    if len(head) + len(payload) <= _CHUNK_BYTES:
        _write(pipe, head + payload)
        return
    _widen(pipe)
    _write(pipe, head)
    _write(pipe, payload)


class Arrival:
    """Takes what a child sends from a pipe that does not block, a large result into its place."""

    def __init__(self, pipe: int) -> None:
        self.about: tuple[Readings, Failure | None, bool] | None = None
        self.payload: bytes | bytearray = b""
        self.is_complete = False
        self._pipe = pipe
        self._begin = bytearray()
        self._filled = 0

    def read(self) -> bool:
        """Take what has arrived; return whether more may come."""
        try:
            while not self.is_complete:
                if not (self._read_begin() if self.about is None else self._read_payload()):
                    return False
        except BlockingIOError:
            return True
        return False

    def _read_begin(self) -> int:
        data = os.read(self._pipe, _CHUNK_BYTES)
        begin = self._begin
        begin += data
        if len(begin) < _HEADER.size:
            return len(data)
        about_size, payload_size = _HEADER.unpack_from(begin)
        start = _HEADER.size + about_size
        if len(begin) < start:
            return len(data)
        self.about = marshal.loads(memoryview(begin)[_HEADER.size : start])
        self._filled = len(begin) - start
        if self._filled == payload_size:
            self.payload = bytes(memoryview(begin)[start:])
            self.is_complete = True
        else:
            self.payload = bytearray(payload_size)
            self.payload[: self._filled] = memoryview(begin)[start:]
        return len(data)

    def _read_payload(self) -> int:
        assert isinstance(self.payload, bytearray)
        with memoryview(self.payload) as whole, whole[self._filled :] as room:
            count = os.readv(self._pipe, [room])
        self._filled += count
        self.is_complete = self._filled == len(self.payload)
        return count


class Watch:
    """Waits for what the child of one call sends, and for its end.

    Args:
        function: what is called, with its limits.
        pid: of the child.
        pipe: what it sends comes from here.

    Attributes:
        reason: why the child must be killed: `timeout` or `limit`; empty otherwise.
    """

    def __init__(self, function: Function, pid: int, pipe: int) -> None:
        self.reason = ""
        self.arrival = Arrival(pipe)
        self._pid = pid
        self._pipe = pipe
        self._limits = function.limits
        self._largest: dict[str, float] = {}
        self._started_ns = now_ns = monotonic_ns()
        self._timeout_at_ns = now_ns + function.timeout_ns if function.timeout_ns else 0
        self._is_sampled = bool(function.limits) and not _SAMPLED.isdisjoint(function.limits)
        self._is_timed = bool(function.timeout_ns or function.limits)

    def until_done(self, poll: Any) -> None:
        """Return when the outcome is here, the child is dead, or it must be killed. `poll`: an empty `select.poll`."""
        pidfd, pipe, arrival = os.pidfd_open(self._pid), self._pipe, self.arrival
        os.set_blocking(pipe, False)
        poll.register(pipe, _READABLE)
        poll.register(pidfd, _READABLE)
        try:
            while not self.reason:
                ready = dict(poll.poll(self._patience_ms() if self._is_timed else None))
                # The pipe may end before the child does, when it closes all that it has: then only its death counts.
                if pipe in ready and not arrival.read() and not arrival.is_complete:
                    poll.unregister(pipe)
                if pidfd in ready:
                    arrival.read()  # what it wrote last
                if arrival.is_complete or pidfd in ready:
                    return
                if self._is_timed:
                    self._compare()
        finally:
            for descriptor in (pipe, pidfd):
                try:
                    poll.unregister(descriptor)
                except KeyError:
                    pass  # it has ended already
            os.close(pidfd)

    @property
    def ran_s(self) -> float:
        """How long the child has run, in seconds."""
        return (monotonic_ns() - self._started_ns) / 1e9

    def figures(self) -> dict[str, Any]:
        """Return fields of `Usage`: what the child has measured itself, and what was seen of it and its children."""
        wall_s = self.ran_s
        found: dict[str, Any] = {"started_at": time.time() - wall_s}
        if self.arrival.about is not None:
            found |= figures(self.arrival.about[0])
        else:
            cpu_s = self._largest.get("cpu_s", 0.0)
            found |= {"wall_s": wall_s, "cpu_user_s": cpu_s, "cpu_system_s": 0.0, "peak_memory_bytes": 0}
            found["quality"] = "lower bound; wall_s: exact"
        for field, value in self._largest.items():
            if (name := _FIGURES.get(field)) is not None and value > found.get(name, 0):
                found[name] = int(value)
        return found

    def _patience_ms(self) -> float | None:
        if self._is_sampled:
            return LOOK_EVERY_NS / 1e6
        ends = [self._timeout_at_ns] if self._timeout_at_ns else []
        if "wall_s" in self._limits:
            ends.append(self._started_ns + int(self._limits["wall_s"] * 1e9))
        return max(0, min(ends) - monotonic_ns()) / 1e6 + 1 if ends else None

    def _compare(self) -> None:
        """See whether the call has run too long or uses too much."""
        now_ns = monotonic_ns()
        if self._timeout_at_ns and now_ns >= self._timeout_at_ns:
            self.reason = "timeout"
        if not self._limits:
            return
        used = {"wall_s": (now_ns - self._started_ns) / 1e9}
        if self._is_sampled:
            used |= look(self._pid)
        for field, value in used.items():
            self._largest[field] = max(value, self._largest.get(field, 0))
        if any(value > self._limits.get(field, value) for field, value in used.items()):
            self.reason = "limit"


def _widen(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _WIDE_PIPE_BYTES)
    except OSError as error:
        # A user may own only so much buffer; the pipe works as it is.
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise


def _write(pipe: int, data: bytes | bytearray) -> None:
    done = os.write(pipe, data)
    if done < len(data):
        view = memoryview(data)
        while done < len(data):
            done += os.write(pipe, view[done:])
