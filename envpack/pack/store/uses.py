"""Who uses what of a store, and when it was last used, so that collection takes nothing away from anybody.

```
 locks/NAME.lock                  its time stamp is the last use of that layer or environment, to the hour
 environments/NAME/pyvenv.cfg     locked, shared, by each process that asked for the environment
 uses/RANDOM.lock                 the layers and manifests that one process needs, a line each, locked by that process
 locks/collect.lock               shared while such a line is written, exclusive while a collection takes things away
```
A process holds what it asked for until it ends, however it ends. First it says what it needs, then it looks whether
that is there: what is there then stays. Who may only read the store holds environments all the same, as that writes
nothing.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from envpack.pack.store.locks import is_at, locked, open_lock, own_new_lock, sweep, try_lock, wait_lock
from envpack.pack.store.sharing import make_folder

# A use within this time of the last one is not written down again.
TOUCH_S = 3600.0

_FILE = " file"

_processes: dict[tuple[str, int], _Process] = {}
_guard = threading.Lock()


class _Process:
    """What this process holds of one store.

    Attributes:
        lease: descriptor of its file in `uses/`; None until there is something to write.
        path: that file.
        names: what it needs, and whether the layer file is needed rather than the layer in any form.
        environments: descriptor that holds each environment.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lease: int | None = None
        self.path = ""
        self.names: dict[str, bool] = {}
        self.environments: dict[str, int] = {}

    def release(self) -> None:
        with self.lock:
            for descriptor in self.environments.values():
                os.close(descriptor)
            self.environments.clear()
            self.names.clear()
            if self.lease is not None:
                with suppress(OSError):  # somebody else's folder by now, or gone with the store
                    os.unlink(self.path)
                os.close(self.lease)
                self.lease = None


class Uses:
    """The uses of one store.

    Args:
        root: the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks = root / "locks"
        self._folder = root / "uses"

    def touch(self, *names: str) -> None:
        """Remember that something is used now."""
        for name in names:
            file = self._locks / f"{name}.lock"
            try:
                if time.time() - os.stat(file).st_mtime > TOUCH_S:
                    os.utime(file)
            except FileNotFoundError:
                with suppress(OSError):
                    os.close(open_lock(file))
            except OSError:
                pass  # of a store that can only be read nobody collects by what readers do

    def last_used_s(self, name: str, default: Path) -> float:
        """Return when something was last used, in seconds since the epoch; without a note of that, when it was made."""
        for file in (self._locks / f"{name}.lock", default):
            with suppress(OSError):
                return os.stat(file).st_mtime
        return 0.0

    def hold_environment(self, folder: Path) -> bool:
        """Hold an environment until this process ends.

        Returns:
            Whether it is there; what is there stays from now on.
        """
        config = folder / "pyvenv.cfg"
        try:
            descriptor = os.open(config, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if not try_lock(descriptor, fcntl.LOCK_SH):
            # A collection is about to take it away, or another one had only looked.
            wait_lock(descriptor, config, fcntl.LOCK_SH)
        if not is_at(descriptor, config):
            os.close(descriptor)
            return False
        process = self._process()
        with process.lock:
            previous = process.environments.pop(folder.name, None)
            process.environments[folder.name] = descriptor
        if previous is not None:
            os.close(previous)
        return True

    def holds_environment(self, folder: Path) -> bool:
        """Tell whether this process holds an environment already."""
        return folder.name in self._process().environments

    def hold(self, *names: str, files: bool = False) -> None:
        """Keep layers and manifests, those that come later too, until this process ends.

        Args:
            names: digests and ids.
            files: whether the layers are needed as files, too, and not only unpacked.
        """
        process = self._process()
        with process.lock:
            new = [name for name in names if name not in process.names or (files and not process.names[name])]
            if not new:
                return
            try:
                self._write(process, "".join(f"{name}{_FILE if files else ''}\n" for name in new))
            except OSError:
                return  # nobody who cannot write here can make anything, and that is said where it is tried
            process.names.update(dict.fromkeys(new, files))

    def held(self) -> dict[str, bool]:
        """Return what living processes need, and whether it is needed as a file; to be asked while none can write."""
        held: dict[str, bool] = {}
        if self._folder.exists():
            sweep(self._folder)
            for file in self._folder.iterdir():
                with suppress(FileNotFoundError):  # its process ended meanwhile
                    for line in file.read_text().splitlines():
                        name = line.removesuffix(_FILE)
                        held[name] = held.get(name, False) or line.endswith(_FILE)
        return held

    def release(self) -> None:
        """Let go of all that this process holds of the store."""
        with _guard:
            process = _processes.pop((str(self._root), os.getpid()), None)
        if process is not None:
            process.release()

    def _write(self, process: _Process, lines: str) -> None:
        if process.lease is None:
            make_folder(self._locks)
            make_folder(self._folder)
            sweep(self._folder)
            name, process.lease = own_new_lock(self._folder)
            process.path = str(self._folder / f"{name}.lock")
        with locked(self._locks / "collect.lock", shared=True):
            os.write(process.lease, lines.encode())

    def _process(self) -> _Process:
        key = (str(self._root), os.getpid())
        with _guard:
            return _processes.setdefault(key, _Process())


@atexit.register
def release_all() -> None:
    """Let go of all that this process holds of any store, as is done when it ends."""
    for (_, pid), process in list(_processes.items()):
        if pid == os.getpid():
            process.release()
