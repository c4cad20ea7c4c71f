"""GPU memory of calls in this process, from the counters of the libraries that it has loaded; nothing is imported.

| where | figure | quality |
|---|---|---|
| torch, once it has used a GPU | its allocator's peak, reset before and read after the call | exact; an upper bound where several GPUs had their peaks at different times |
| cupy | what its memory pool has handed out, looked at with each allocation of the calling thread | exact for that thread |
| otherwise, where pynvml is loaded | what the driver says of this process, before and after the call | lower bound |

A reset is for the whole process. So a call inside another one first hands the peak so far to it, as brackets do.
"""  # noqa: E501 - a row of a table is one line

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

used: list[str] = []
"""The libraries through which this process was seen to use a GPU; empty until `is_used` has found one."""

_running: list[GpuPeak] = []


def is_used() -> bool:
    """Tell whether a library that this process has loaded uses a GPU; a fraction of a microsecond where none has."""
    for name, looks in _LIBRARIES.items():
        if name in sys.modules and name not in used and looks():
            used.append(name)
    return bool(used)


def begin() -> GpuPeak | None:
    """Begin to measure; `None` if nothing that is loaded uses a GPU, or may begin to while this is measured."""
    return GpuPeak() if is_used() or "torch" in sys.modules else None


class GpuPeak:
    """The largest GPU memory from now until `end`, on all devices together."""

    def __init__(self) -> None:
        self._torch_bytes = self._torch_devices = 0
        self._has_torch = _torch() is not None
        if _running:
            _running[-1]._take_in()
        _reset_torch()
        _running.append(self)
        self._cupy = _watch_cupy()
        self._nvml_bytes = _nvml_bytes() if self._cupy is None and not self._has_torch else None

    def end(self) -> tuple[int, str] | None:
        """Return the bytes and their quality in one word, or `None` where no GPU was used."""
        self._take_in()
        _running.remove(self)
        if _running:
            _running[-1]._take_in()
        known = [self._torch_bytes] if self._torch_devices else []
        if self._cupy is not None:
            self._cupy.__exit__(None, None, None)
            known.append(self._cupy.peak_bytes)
        if known:
            return sum(known), "exact" if self._torch_devices + (self._cupy is not None) == 1 else "upper bound"
        looks = [seen for seen in (self._nvml_bytes, _nvml_bytes()) if seen is not None]
        return (max(looks), "lower bound") if looks else None

    def _take_in(self) -> None:
        torch = _torch()
        if torch is None:
            return
        peaks = [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]
        used = [peak for peak in peaks if peak]
        self._torch_bytes = max(self._torch_bytes, sum(used))
        self._torch_devices = max(self._torch_devices, len(used), 1)


def _torch() -> Any:
    """Return torch if it is loaded and has used a GPU; to ask it anything else would start one."""
    torch = sys.modules.get("torch")
    try:
        return torch if torch is not None and torch.cuda.is_initialized() else None
    except AttributeError:
        # It is just being imported.
        return None


def _reset_torch() -> None:
    if (torch := _torch()) is not None:
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def _has_cupy() -> bool:
    try:
        return bool(sys.modules["cupy"].cuda.runtime.getDeviceCount())
    except Exception:
        # It finds no GPU, and says so by an error of the driver's; or it is just being imported.
        return False


def _watch_cupy() -> Any:
    if "cupy" not in used:
        return None
    cupy = sys.modules["cupy"]
    pool = cupy.get_default_memory_pool()
    now = pool.used_bytes()

    class Peak(cupy.cuda.MemoryHook):  # type: ignore[misc, name-defined]  # known only where it is loaded
        """Looks at the pool after each allocation."""

        name = f"envpack-{len(_running)}"
        peak_bytes = now

        def malloc_postprocess(self, **_: Any) -> None:
            self.peak_bytes = max(self.peak_bytes, pool.used_bytes())

    hook = Peak()
    hook.__enter__()
    return hook


def _nvml_bytes() -> int | None:
    """Return what the driver says that this process has on all GPUs; `None` where there is none."""
    nvml = sys.modules.get("pynvml")
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        processes = [each for handle in handles for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError:
        return None
    return sum(each.usedGpuMemory or 0 for each in processes if each.pid == os.getpid())


_LIBRARIES: dict[str, Callable[[], bool]] = {
    "torch": lambda: _torch() is not None,
    "cupy": _has_cupy,
    "pynvml": lambda: _nvml_bytes() is not None,
}
