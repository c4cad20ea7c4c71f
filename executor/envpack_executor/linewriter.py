"""A file to which lines are appended by a thread of its own, so that nobody waits for the disk.

Guarantees: lines stay in order and whole, also where several processes append to the same file on a local disk; when it
is closed, all are written. A disk that is full stops nobody: the lines are dropped, a warning says so once, and when
there is room again a line in the file says how many are missing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time

from envpack_executor.errors import EventLogError

_log = logging.getLogger(__name__)

COLLECT_S = 0.02
"""So long lines wait for others, to be written together."""

MOST_WAITING_BYTES = 1 << 26
"""More than this is not kept for a disk that is too slow."""


class LineWriter:
    """Appends lines to a file.

    Args:
        path: of the file; made, for its owner alone, where it is not there.

    Raises:
        EventLogError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EventLogError(f"event log {self._path!r} cannot be opened: {error.strerror}") from error
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._is_torn = self._has_warned = False
        self._lock = threading.Lock()
        self._has_some = threading.Event()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="envpack-events", daemon=True)
        self._thread.start()

    def put(self, lines: str) -> None:
        """Take whole lines, from any thread; nobody waits."""
        with self._lock:
            if self._waiting_bytes > MOST_WAITING_BYTES:
                self._lose(lines, "the disk is too slow")
                return
            self._waiting.append(lines)
            self._waiting_bytes += len(lines)
        if not self._has_some.is_set():
            self._has_some.set()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._is_closing.set()
        self._has_some.set()
        self._thread.join()
        os.close(self._descriptor)

    def _work(self) -> None:
        while not self._is_closing.is_set():
            self._has_some.wait()
            self._is_closing.wait(COLLECT_S)
            self._has_some.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        with self._lock:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            lost, self._lost = self._lost, 0
        if lost:
            event = {"time": round(time.time(), 6), "event": "lines lost", "lines": lost}
            error = self._append(json.dumps(event, separators=(",", ":")) + "\n")[1]
            if error is not None:
                with self._lock:
                    self._lost += lost + text.count("\n")
                return
        rest, error = self._append(text)
        if error is not None:
            with self._lock:
                self._lose(rest, error.strerror or str(error))

    def _append(self, text: str) -> tuple[str, OSError | None]:
        """Return what could not be written, and why."""
        data = (b"\n" if self._is_torn and text else b"") + text.encode()
        try:
            while data:
                written = os.write(self._descriptor, data)
                self._is_torn = data[written - 1 : written] != b"\n"
                data = data[written:]
        except OSError as error:
            return data.decode(errors="replace"), error
        return "", None

    def _lose(self, lines: str, why: str) -> None:
        self._lost += lines.count("\n")
        if not self._has_warned:
            self._has_warned = True
            _log.warning("event log %r: lines are lost: %s", self._path, why)
