"""Which files below a folder are opened, by whatever process and in whatever way: the kernel tells (inotify).

An audit hook sees what Python opens. What C libraries open (fonts, tables, plugins) it does not see, nor what children
in other languages do. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import threading
from types import TracebackType

from envpack.errors import UsageError

_IN_OPEN, _IN_OVERFLOW, _IN_IS_FOLDER = 0x20, 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 20


class OpenedFiles:
    """Watches a folder and everything below it while its `with` block runs.

    Args:
        folder: the folder; folders that are made in it later are not watched.

    Attributes:
        paths: what was opened, relative to the folder; complete after the block.

    Raises:
        UsageError: the kernel watches no more folders for this user, or none at all.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.paths: set[str] = set()
        self._root = os.fspath(folder)
        self._places: dict[int, str] = {}
        self._has_overflown = False

    def __enter__(self) -> OpenedFiles:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            raise UsageError("files that a program opens can be watched on Linux only", "trim without files")
        self._queue = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._queue < 0:
            raise self._refused()
        try:
            for place, _, _ in os.walk(self._root):
                number = libc.inotify_add_watch(self._queue, os.fsencode(place), _IN_OPEN)
                if number < 0:
                    raise self._refused()
                self._places[number] = os.path.relpath(place, self._root)
        except BaseException:
            os.close(self._queue)
            raise
        self._wakes, self._wake = os.pipe()
        self._reader = threading.Thread(target=self._listen, name="envpack-opened", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._wake)
        self._reader.join()
        os.close(self._wakes)
        os.close(self._queue)
        if self._has_overflown and error is None:
            raise UsageError(
                "more files were opened at once than the kernel tells", "raise fs.inotify.max_queued_events"
            )

    @staticmethod
    def _refused() -> UsageError:
        number = ctypes.get_errno()
        setting = "max_user_instances" if number == errno.EMFILE else "max_user_watches"
        return UsageError(f"cannot watch which files are opened: {os.strerror(number)}", f"raise fs.inotify.{setting}")

    def _listen(self) -> None:
        """Read until the block has ended and nothing is left to be read."""
        has_ended = False
        while not has_ended:
            ready, _, _ = select.select([self._queue, self._wakes], [], [])
            has_ended = self._wakes in ready
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self._queue, _BUFFER_BYTES)
            except BlockingIOError:
                return
            place = 0
            while place < len(data):
                number, mask, _, size = _EVENT.unpack_from(data, place)
                name = data[place + _EVENT.size : place + _EVENT.size + size].rstrip(b"\0")
                place += _EVENT.size + size
                self._has_overflown |= bool(mask & _IN_OVERFLOW)
                if name and number in self._places and not mask & _IN_IS_FOLDER:
                    self.paths.add(os.path.normpath(f"{self._places[number]}/{os.fsdecode(name)}"))
