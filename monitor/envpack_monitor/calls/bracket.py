"""The bracket around one call of this process: wall, CPU, exact peak memory, bytes and faults, in microseconds.

Standard library only, and nothing of the rest of the package but `envpack_monitor.calls.counters`: the texts of both
are sent to worker processes whose environment has nothing else.

How the peak is exact: the kernel keeps the largest resident memory of a process (`VmHWM`), and writing `5` to
`/proc/self/clear_refs` sets it back to what is resident now. Reset before the call, read after it, and no spike is too
short to be seen. Three things have to be right:

- The reset is for the whole process. So a bracket that starts inside another one first hands the peak so far to it, and
  its own when it ends; the outer figures stay exact. Brackets of several *threads* that overlap see each other's memory
  and CPU: their figures are called upper bounds.
- Reading `VmHWM` from `/proc/self/status` costs as much as all the rest. `getrusage` returns the same number for free,
  except where the program that ran in this process *before exec* was larger (children of a fat parent). What that floor
  is gets measured; only at or below it is `status` read.
- The counters of bytes and of children are read when a bracket ends. In a calm, when they have stood still for many
  brackets, one that starts soon after goes on from the last reading. Should they have risen when it ends, that may have
  been between the two: this one then says upper bound, and twice as many have to be calm before the next.
"""

from __future__ import annotations

import time
from _thread import get_ident
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

from envpack_monitor.calls.counters import CHAIN_S, NOISE, Sums, begin, here

TRUST_S = 3e-3
"""After a longer call the counters are read in any case."""

Figures = dict[str, float | int | str]
Rusage = Any
"""What `getrusage` returns. Taken by position, for names cost more: 0, 1 CPU; 2 peak; 6, 7 faults; 14, 15 switches."""
Record = tuple[Rusage, Rusage, float, int, int]
"""Of a bracket that nothing disturbed: `getrusage` before and after, wall seconds, bytes read and written."""

COUNTED = ("bytes_read", "bytes_written", "cpu_user_s", "cpu_system_s")


class Bracket:
    """Measures what this process uses between `start` and `stop`; may be used again and again, one at a time."""

    __slots__ = (
        "_before_kib",
        "_calm",
        "_children",
        "_children_after",
        "_io",
        "_io_after",
        "_is_ambiguous",
        "_is_distrusted",
        "_is_trusted",
        "_noise",
        "_noise_after",
        "_own",
        "_own_after",
        "_process",
        "_started",
        "_wall_s",
        "inner_kib",
        "is_odd",
        "is_shared",
        "peak_kib",
        "thread",
    )

    def start(self, sums: Sums | None = None) -> None:
        """Begin. Brackets may nest, and may run in several threads.

        Args:
            sums: who will add up what `end` returns.
        """
        process = here.process or begin()
        self._process = process
        self.thread = get_ident()
        self.is_odd = self.is_shared = self._is_trusted = self._is_ambiguous = self._is_distrusted = False
        self.inner_kib = 0
        with process.lock:
            if process.running:
                process.hand_over(self)
            process.running.append(self)
            process.reset()
        self._noise = process.noise_now() if process.backgrounds else process.noise
        calm = process.calm
        if calm is not None and perf_counter() < calm.until and (calm.sums is None or calm.sums is sums):
            calm.sums = sums
        else:
            calm = None
            process.read_counters()
        self._io = process.io
        self._children = process.children
        self._own = own = getrusage(RUSAGE_SELF)
        if own[2] > process.floor_kib:
            self._before_kib = own[2]
        else:
            self._before_kib = self._find_kib(own[2])
            process.disturb()
        self._calm = calm
        self._started = perf_counter()

    def end(self, sums: Sums | None = None) -> Record | None:
        """End, and return what a sum over many calls needs, or `None` where only `figures` can tell it all.

        Args:
            sums: the same as at the start. Many brackets of the same sums, one soon after the other, leave the
                counters of bytes and of children to the next reading. If nothing was counted, nothing was in each.
        """
        now = perf_counter()
        self._wall_s = wall_s = now - self._started
        self._own_after = own = getrusage(RUSAGE_SELF)
        calm = self._calm
        if calm is not None and sums is not None and wall_s < TRUST_S:
            process = self._process
            if process.calm is calm:
                # In one step, for a bracket of another thread may start at this moment.
                process.running.remove(self)
                calm.until = now + CHAIN_S
                self._is_trusted = True
                return self._own, own, wall_s, 0, 0
        return self._end_with_counters(now)

    def take_counters_from(self, sums: Sums) -> None:
        """Complete what `end` has left for later: nothing was counted, unless the next reading says otherwise."""
        if self._is_trusted:
            self._io_after, self._children_after, self._noise_after = self._io, self._children, self._noise
            self.peak_kib = self._own_after[2]
            sums.answer_for(self)

    def distrust(self) -> None:
        """Note that the next reading has said otherwise."""
        self._is_distrusted = True

    def _end_with_counters(self, now: float) -> Record | None:
        process, own = self._process, self._own_after
        if process is not here.process:
            # There was a fork in between, and this is the child.
            return None
        process.read_counters()
        self._io_after = io = process.io
        self._children_after = children = process.children
        self._noise_after = process.noise_now() if process.backgrounds else process.noise
        self.peak_kib = own[2] if own[2] > process.floor_kib else self._find_kib(own[2])
        process.leave(self)
        before = self._io
        if io == before and children[6] == self._children[6]:
            process.was_calm(now)
        else:
            self._is_ambiguous = self._calm is not None
            process.was_not_calm(self._is_ambiguous)
        if self.is_odd or self._is_special() or io is None or before is None:
            return None
        return self._own, own, self._wall_s, io[0] - before[0], io[1] - before[1]

    def _find_kib(self, maxrss_kib: int) -> int:
        self.is_odd = True
        return self._process.peak_kib(maxrss_kib)

    def stop(self) -> Figures:
        """End, and return the figures.

        Returns:
            As `figures`.
        """
        self.end()
        return self.figures()

    def figures(self) -> Figures:
        """Return the figures after the end.

        Returns:
            Fields of `Usage`: `started_at`, `wall_s`, `cpu_user_s`, `cpu_system_s`, `memory_before_bytes`,
            `peak_memory_bytes`, `bytes_read`, `bytes_written`, `voluntary_switches`, `involuntary_switches`,
            `minor_faults`, `major_faults` and `quality`. Without those that /proc does not tell, and in a process that
            was forked in between without those that are not true of it.
        """
        started_at = time.time() - perf_counter() + self._started
        if self._process is not here.process:
            return {"started_at": started_at, "wall_s": self._wall_s, "quality": "exact"}
        own, before, children, children_before = self._own_after, self._own, self._children_after, self._children
        figures: Figures = {
            "started_at": started_at,
            "wall_s": self._wall_s,
            "cpu_user_s": own[0] - before[0] + children[0] - children_before[0],
            "cpu_system_s": own[1] - before[1] + children[1] - children_before[1],
            "memory_before_bytes": self._before_kib * 1024,
            "peak_memory_bytes": max(self.peak_kib, self.inner_kib) * 1024,
            "voluntary_switches": own[14] - before[14] + children[14] - children_before[14],
            "involuntary_switches": own[15] - before[15] + children[15] - children_before[15],
            "minor_faults": own[6] - before[6] + children[6] - children_before[6],
            "major_faults": own[7] - before[7] + children[7] - children_before[7],
        }
        if self._noise_after is not self._noise:
            for name, now, then in zip(NOISE, self._noise_after, self._noise, strict=False):
                # The kernel splits CPU by estimate: of a short call less may be left than the thread used.
                figures[name] = max(0, figures[name] - (now - then))  # type: ignore[operator]  # these are numbers
        if self._io_after is not None and self._io is not None:
            figures["bytes_read"] = self._io_after[0] - self._io[0]
            figures["bytes_written"] = self._io_after[1] - self._io[1]
        figures["quality"] = self._quality()
        return figures

    def _is_special(self) -> bool:
        """Tell whether there is more to say than differences of two readings."""
        return (
            self._is_ambiguous or self._noise is not self._noise_after or self._children[6] != self._children_after[6]
        )

    def _quality(self) -> str:
        """Return one word for all figures, then exceptions as `; FIGURE: WORD`."""
        if self.is_shared:
            return "upper bound; wall_s: exact"
        words = ["exact"]
        if not self._process.can_reset and max(self.peak_kib, self.inner_kib) <= self._before_kib:
            words += ["peak_memory_bytes: upper bound", "memory_before_bytes: upper bound"]
        elif self._children[6] != self._children_after[6]:
            # The memory of children is not in this process's peak: nobody can tell how much of it was there at once.
            words.append("peak_memory_bytes: lower bound")
        if len(self._noise) != len(self._noise_after) or len(self._noise) < len(NOISE):
            # A background thread worked at one end of the bracket; of its work only the CPU is known at any moment.
            words += [f"{name}: upper bound" for name in list(NOISE)[2:]]
        if self._is_distrusted:
            words += [f"{name}: lower bound" for name in COUNTED]
        if self._is_ambiguous:
            words += [f"{name}: upper bound" for name in COUNTED]
        return "; ".join(words)
