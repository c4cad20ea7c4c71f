"""GPU memory of processes as NVIDIA's management library tells it; that library comes with the driver.

It tells what is in use now and keeps no peak, so what is made of it is sampled.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterable
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_NOT_KNOWN = (1 << 64) - 1
_MOST_PROCESSES = 4096
# The version that is looked for first knows instances of a divided GPU; the older one has the same first fields.
_CALLS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetComputeRunningProcesses_v2",
)


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Gpus:
    """The GPUs of this machine."""

    def __init__(self, library: Any, devices: list[ctypes.c_void_p]) -> None:
        self._ask = next(getattr(library, name) for name in _CALLS if hasattr(library, name))
        self._devices = devices

    def __len__(self) -> int:
        return len(self._devices)

    def used_by(self, pids: Iterable[int]) -> int | None:
        """Return the memory in use by some processes on all GPUs together, or `None` if the driver does not tell.

        In a container the driver may number processes as the host does; then it is 0.
        """
        wanted = set(pids)
        total = 0
        for device in self._devices:
            count = ctypes.c_uint(_MOST_PROCESSES)
            found = (_Process * _MOST_PROCESSES)()
            if self._ask(device, ctypes.byref(count), found):
                return None
            for process in found[: count.value]:
                if process.pid in wanted and process.used != _NOT_KNOWN:
                    total += process.used
        return total


@functools.cache
def gpus() -> Gpus | None:
    """Return the GPUs, or `None` where there is no such driver or no such GPU. Asked once per process."""
    with _lock, contextlib.suppress(OSError, StopIteration):
        library = ctypes.CDLL(_LIBRARY)
        if library.nvmlInit_v2():
            return None
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) or not count.value:
            return None
        devices = []
        for number in range(count.value):
            device = ctypes.c_void_p()
            if not library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)):
                devices.append(device)
        return Gpus(library, devices)
    return None


_lock = threading.Lock()
