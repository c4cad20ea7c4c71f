"""GPU memory, against stand-ins that behave like the libraries: no GPU is needed here, and none was used to make them.

They keep the rules of the real ones that matter: counters are per device and for the whole process, a peak is reset to
what is in use now, a library that has not been used yet answers nothing, and cupy tells its hooks of allocations.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from envpack_monitor import monitor
from envpack_monitor.calls import gpu
from tests.monitor.helpers import MB


class Torch(ModuleType):
    """An allocator with counters per device, as `torch.cuda` has it."""

    def __init__(self, devices: int, is_initialized: bool = True) -> None:
        super().__init__("torch")
        self.cuda = self
        self.now, self.peak = [0] * devices, [0] * devices
        self.ready = is_initialized

    def is_initialized(self) -> bool:
        return self.ready

    def device_count(self) -> int:
        return len(self.now)

    def max_memory_allocated(self, device: int) -> int:
        assert self.ready, "asking would start the driver"
        return self.peak[device]

    def reset_peak_memory_stats(self, device: int) -> None:
        assert self.ready, "asking would start the driver"
        self.peak[device] = self.now[device]

    def allocate(self, size: int, device: int = 0) -> None:
        self.ready = True
        self.now[device] += size
        self.peak[device] = max(self.peak[device], self.now[device])


class Cupy(ModuleType):
    """A memory pool that calls the hooks that are entered, as cupy's does."""

    def __init__(self, devices: int) -> None:
        super().__init__("cupy")
        self.cuda = self.runtime = self
        self.devices, self.used, self.hooks = devices, 0, []
        hooks: dict[str, Any] = {}
        self.hooks_by_name = hooks

        class MemoryHook:
            name = "hook"

            def __enter__(self) -> MemoryHook:
                assert self.name not in hooks
                hooks[self.name] = self
                return self

            def __exit__(self, *_: object) -> None:
                del hooks[self.name]

        self.MemoryHook = MemoryHook

    def getDeviceCount(self) -> int:
        if not self.devices:
            raise RuntimeError("cudaErrorNoDevice")
        return self.devices

    def get_default_memory_pool(self) -> Cupy:
        return self

    def used_bytes(self) -> int:
        return self.used

    def allocate(self, size: int) -> None:
        self.used += size
        for hook in list(self.hooks_by_name.values()):
            hook.malloc_postprocess(device_id=0, size=size, mem_size=size, mem_ptr=1, pmem_id=1)


class Nvml(ModuleType):
    """The driver's list of processes."""

    class NVMLError(Exception):
        pass

    def __init__(self, used: int | None) -> None:
        super().__init__("pynvml")
        self.used = used

    def nvmlInit(self) -> None:
        if self.used is None:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        class Process:
            pid = os.getpid()
            usedGpuMemory = self.used

        return [Process()]


@pytest.fixture(autouse=True)
def no_gpu_before_and_after() -> Iterator[None]:
    gpu.used.clear()
    yield
    gpu.used.clear()
    assert not gpu._running


def block_around(work: Any) -> tuple[int | None, str]:
    with monitor("gpu", history=False) as block:
        work()
    assert block.usage is not None
    return block.usage.gpu_memory_bytes, block.usage.quality_of("gpu_memory_bytes")


def test_without_a_library_nothing_is_said_of_gpus() -> None:
    assert block_around(lambda: None) == (None, "unknown")


def test_peak_of_torch_is_exact_though_it_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch(1)
    monkeypatch.setitem(sys.modules, "torch", torch)
    torch.allocate(900 * MB)
    torch.allocate(-800 * MB)

    def work() -> None:
        torch.allocate(300 * MB)
        torch.allocate(-300 * MB)

    assert block_around(work) == (400 * MB, "exact")
    assert block_around(lambda: None) == (100 * MB, "exact")


def test_peaks_of_several_devices_together_are_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch(2)
    monkeypatch.setitem(sys.modules, "torch", torch)

    def work() -> None:
        torch.allocate(30 * MB, 0)
        torch.allocate(-30 * MB, 0)
        torch.allocate(20 * MB, 1)

    assert block_around(work) == (50 * MB, "upper bound")


def test_inner_block_does_not_hide_the_peak_of_the_outer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch(1)
    monkeypatch.setitem(sys.modules, "torch", torch)
    inner: list[tuple[int | None, str]] = []

    def work() -> None:
        torch.allocate(70 * MB)
        torch.allocate(-60 * MB)
        inner.append(block_around(lambda: torch.allocate(5 * MB)))

    assert block_around(work) == (70 * MB, "exact")
    assert inner == [(15 * MB, "exact")]


def test_torch_that_begins_to_use_a_gpu_during_the_call_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Torch(1, is_initialized=False)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert block_around(lambda: None) == (None, "unknown")
    assert block_around(lambda: torch.allocate(40 * MB)) == (40 * MB, "exact")


def test_pool_of_cupy_is_looked_at_with_each_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = Cupy(1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def work() -> None:
        cupy.allocate(25 * MB)
        cupy.allocate(-25 * MB)
        assert block_around(lambda: cupy.allocate(1 * MB)) == (1 * MB, "exact")

    assert block_around(work) == (25 * MB, "exact")
    assert not cupy.hooks_by_name


def test_libraries_that_find_no_gpu_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", Cupy(0))
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(None))
    assert block_around(lambda: None) == (None, "unknown")


def test_driver_is_asked_where_no_library_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(10 * MB)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    def work() -> None:
        nvml.used = 60 * MB

    assert block_around(work) == (60 * MB, "lower bound")


def test_calls_that_come_fast_have_their_gpu_memory_too(monkeypatch: pytest.MonkeyPatch, remembered: Any) -> None:
    torch = Torch(1)
    monkeypatch.setitem(sys.modules, "torch", torch)

    @monitor(category="kernel")
    def work(number: int) -> None:
        torch.allocate(number)
        torch.allocate(-number)

    for number in range(1_000):
        work(number)
    calls = remembered().calls("kernel")
    assert sum(call.calls for call in calls) == 1_000
    assert max(call.gpu_memory_bytes for call in calls) == 999
