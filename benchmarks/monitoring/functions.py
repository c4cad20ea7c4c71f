"""Functions that stay within their limits or exceed one, in the ways in which users' functions do.

Each writes into a folder of its own when it is about to cross its limit, and when it comes to its end. So it is known
from outside how long it lived above the limit, and whether it was ended or had ended before.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envpack_monitor.limits import Limits

MB = 1_000_000
LIMIT_BYTES = 120 * MB
HOLD_S = 30.0
HOLD_IN_CHILD = f"""
import mmap, sys, time
m = mmap.mmap(-1, int(sys.argv[1]))
for i in range(0, len(m), 4096): m[i] = 1
open(sys.argv[2], "w").write(str(time.monotonic()))
time.sleep({HOLD_S})
"""

Work = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One function and what is to become of it.

    Args:
        name: what is printed.
        work: the function; it gets a folder of its own.
        limits: what it may use.
        exceeds: the resource whose limit it exceeds, or none.
        is_short: it is above its limit for less than 100 ms, so it need not be ended, only reported.
    """

    name: str
    work: Work
    limits: Limits
    exceeds: str | None
    is_short: bool = False


def crossed(folder: Path) -> None:
    """Note that the limit is being crossed."""
    # It may be ended between any two steps.
    (folder / "crossing").write_text(str(time.monotonic()))
    (folder / "crossing").rename(folder / "crossed")


def touched(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    return memory


def hold(folder: Path) -> None:
    time.sleep(HOLD_S)
    (folder / "ended").touch()


def spike(size: int) -> Work:
    def work(folder: Path) -> None:
        below = touched(LIMIT_BYTES)
        crossed(folder)
        above = touched(size - LIMIT_BYTES)
        hold(folder)
        below.close()
        above.close()

    return work


def short_spike(size: int) -> Work:
    def work(folder: Path) -> int:
        touched(size).close()
        return size

    return work


def ramp(step: int) -> Work:
    def work(folder: Path) -> None:
        kept, total = [], 0
        while total < LIMIT_BYTES + 60 * MB:
            if total >= LIMIT_BYTES > total - step:
                crossed(folder)
            kept.append(touched(step))
            total += step
            time.sleep(0.002)
        hold(folder)

    return work


def heap(size: int) -> Work:
    def work(folder: Path) -> None:
        below = [bytes([1]) * 1000 for _ in range(LIMIT_BYTES // 1000)]
        crossed(folder)
        above = [bytes([1]) * 1000 for _ in range((size - LIMIT_BYTES) // 1000)]
        hold(folder)
        del below, above

    return work


def in_threads(count: int) -> Work:
    def work(folder: Path) -> None:
        kept: list[mmap.mmap] = []
        size = (LIMIT_BYTES + 20 * MB) // count
        threads = [threading.Thread(target=lambda: kept.append(touched(size))) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        crossed(folder)
        hold(folder)

    return work


def in_children(count: int) -> Work:
    def work(folder: Path) -> None:
        size = (LIMIT_BYTES + 40 * MB) // count
        words = [sys.executable, "-S", "-E", "-c", HOLD_IN_CHILD, str(size)]
        children = [subprocess.Popen([*words, str(folder / f"held-{number}")]) for number in range(count)]
        while len(list(folder.glob("held-*"))) < count:
            time.sleep(0.002)
        crossed(folder)
        children[0].wait()
        (folder / "ended").touch()

    return work


def daemon(step: int) -> Work:
    """Two forks, a session of its own, and no file of the caller's: then memory."""

    def work(folder: Path) -> None:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(3, 256)
                ramp(step)(folder)
            os._exit(0)
        os.wait()
        time.sleep(HOLD_S)

    return work


def files(size: int) -> Work:
    def work(folder: Path) -> None:
        with (folder / "data").open("wb") as file:
            for written in range(0, size, MB):
                if written == size // 2 // MB * MB:
                    crossed(folder)
                file.write(bytes(MB))
                file.flush()
        hold(folder)

    return work


def mapped_file(size: int) -> Work:
    def work(folder: Path) -> None:
        path = folder / "mapped"
        with path.open("wb") as file:
            file.truncate(size)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as memory:
            for offset in range(0, size, 4096):
                memory[offset] = 1
            crossed(folder)
            hold(folder)

    return work


def sleeping(allowed_s: float) -> Work:
    def work(folder: Path) -> None:
        time.sleep(allowed_s)
        crossed(folder)
        hold(folder)

    return work


def burning(allowed_s: float) -> Work:
    def work(folder: Path) -> None:
        while time.process_time() < allowed_s:
            pass
        crossed(folder)
        while True:
            pass

    return work


def breeding(count: int) -> Work:
    def work(folder: Path) -> None:
        for _ in range(count):
            if os.fork() == 0:
                time.sleep(HOLD_S)
                os._exit(0)
        crossed(folder)
        hold(folder)

    return work


def modest(size: int) -> Work:
    def work(folder: Path) -> int:
        memory = touched(size)
        subprocess.run(["true"], check=True)
        (folder / "small").write_bytes(bytes(1000))
        return len(memory)

    return work


def cases(variants: int) -> list[Case]:
    """Return that many of each kind; what is resident in the caller already comes on top of every limit of memory."""
    found = []
    memory = Limits(memory_bytes=LIMIT_BYTES + _resident_bytes())
    for number in range(variants):
        above = LIMIT_BYTES + (20 + 10 * number) * MB
        wall_s = 0.1 + 0.05 * number
        found += [
            Case("spike", spike(above), memory, "memory"),
            Case("short spike", short_spike(above), memory, "memory", is_short=True),
            Case("ramp", ramp((1 + number) * MB), memory, "memory"),
            Case("heap", heap(above), memory, "memory"),
            Case("threads", in_threads(2 + number), memory, "memory"),
            Case("children", in_children(2 + number % 4), memory, "memory"),
            Case("daemon", daemon((2 + number) * MB), memory, "memory"),
            Case("mapped file", mapped_file(above), memory, "memory"),
            Case("files", files((10 + number) * MB), Limits(disk_bytes=(10 + number) // 2 * MB), "disk"),
            Case("sleep", sleeping(wall_s), Limits(wall_s=wall_s), "wall"),
            Case("processor", burning(wall_s), Limits(cpu_s=wall_s), "cpu"),
            Case("processes", breeding(4 + number), Limits(processes=3 + number), "processes"),
            Case("within its limits", modest((10 + number) * MB), memory, None),
        ]
    return found


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Verdict:
    """What has become of one function.

    Args:
        case: the function.
        is_reported: the caller was told what the case says, and of nothing else.
        was_ended: it did not come to its end.
        above_s: how long it, or what it started, lived above its limit, until all of it was gone.
    """

    case: Case
    is_reported: bool
    was_ended: bool
    above_s: float | None


def judge(case: Case) -> Verdict:
    """Run one case isolated, with its limits."""
    from envpack_monitor.errors import LimitExceeded
    from envpack_monitor.isolated.isolate import run_isolated

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome = run_isolated(case.work, (folder,), limits=case.limits, category=case.name, folder=folder)
        over_s = time.monotonic()
        crossing = folder / "crossed"
        above_s = over_s - float(crossing.read_text()) if crossing.exists() else None
        resource = outcome.error.resource if isinstance(outcome.error, LimitExceeded) else None
        is_reported = resource == case.exceeds and (case.exceeds is not None or outcome.error is None)
        return Verdict(case, is_reported, not (folder / "ended").exists(), above_s)
