"""What runs inside a context process: set up once, then serve batches of calls until the host closes the socket.

    host ──PATHS, IMPORTS, BOOT──▶ initializer, set-up function ──READY──▶ host
         ──FUNCTION──▶ kept by number
         ──CALLS──▶ one after another ──RESULTS──▶ host      (several results a frame, none held back for long)
         ──control pipe──▶ another thread ──RETURNED──▶ host

Guarantees: results come in the order of the calls; the shared `progress` words name the call that runs now, so that
whoever finds this process dead knows which call killed it; when the host disappears, the process and everything in
its process group ends at once. Assumes: one host, one socket, frames that the host made. Standard library only.
"""

from __future__ import annotations

# `pickle` is this with a few classes more, and with `re` and `enum`: a quarter of the start.
import _pickle as pickle
import _thread
import mmap
import os
import sys
from collections.abc import Callable, Mapping
from time import monotonic_ns, sleep
from types import ModuleType
from typing import Any

from envpack_executor.process.control import Backlog, die_with, listen
from envpack_executor.process.forking import FORKING, Ended, Forks
from envpack_executor.process.frames import (
    ANSWERS,
    BLOBS,
    BOOT,
    CALLS,
    FUNCTION,
    IMPORTS,
    PATHS,
    READY,
    RESULTS,
    RETURNED,
    SETUP_FAILED,
    VALUES_BYTES,
    read_frame,
    write_frame,
)
from envpack_executor.process.functions import Function, checked_mapping, learn, refuse_bytecode
from envpack_executor.process.meter import Durations, Meter, Usages
from envpack_executor.process.outcomes import (
    LIMITED_FIELDS,
    PROTOCOL,
    failure,
    flush_streams,
    irregularity,
    large_values,
    run,
    send_files_by,
    shortened,
)
from envpack_executor.process.output import keep
from envpack_executor.process.threads import Threads

# A result waits at most this long for company: the clock is looked at between calls.
FLUSH_AFTER_NS = 1_000_000
# While a call runs, another thread sends the results before it. This often, because it takes turns with the call.
FLUSH_EVERY_S = 0.005
PROGRESS_BYTES = 48


class ContextServer:
    """One context in one process: what the set-up returned, the functions known so far, and how calls are measured.

    Args:
        descriptor: the socket to the host, blocking.
        control: the pipe on which the host sends commands.
        lifeline: the pipe that is closed when the host is gone.
        progress: six 64-bit words shared with the host: number of the running call, its start on the monotonic clock
            in ns (0 between batches), pid of its fork child (0 without one); and for a call in this process itself
            its deadline on that clock, its memory in bytes (0 without), and whether the deadline is a limit of its
            wall time.
    """

    def __init__(self, descriptor: int, control: int, lifeline: int, progress: memoryview) -> None:
        self._descriptor = descriptor
        self._lifeline = lifeline
        self._progress = progress
        self._pid = os.getpid()
        self._imports: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self._provided: Mapping[str, Any] = {}
        self._functions: dict[int, Function] = {}
        self._large: dict[int, bytes] = {}  # payloads of those that hold blobs
        self._meter = Meter()
        self._backlog = Backlog()
        self._outcomes: list[Any] = []
        # Counted up by the main thread before, and down by whoever sends, after a failed call is among the outcomes.
        self._failures = self._failures_told = 0
        self._sending = _thread.allocate_lock()
        self._batch_runs = _thread.allocate_lock()
        self._batch_runs.acquire()
        self._is_in_batch = False
        self._has_flusher = False
        self._own_threads = {os.getpid()}
        self._is_known = _thread.allocate_lock()  # held until a thread that was started stands among `_own_threads`
        self._forks: Forks | None = None
        self._threads: Threads | None = None
        send_files_by(descriptor, self._sending)
        self._start_thread(self._listen, control)

    def serve(self) -> None:
        """Serve frames until the host closes the socket."""
        while (frame := read_frame(self._descriptor)) is not None:
            kind, body = frame
            if kind == CALLS:
                self._run_batch(*pickle.loads(body))
            elif kind == FUNCTION:
                self._learn(*pickle.loads(body))
            elif kind == BLOBS:
                self._learn_blobs(*pickle.loads(body))
            elif kind == IMPORTS:
                self._imports = pickle.loads(body)
            elif kind == PATHS:
                sys.path[:] = pickle.loads(body)
            elif kind == BOOT and not self._boot(pickle.loads(body)):
                return
        if self._threads is not None:
            self._threads.join()
        try:
            self._send_results(is_last=True)
        except BrokenPipeError:
            pass  # the host does not want to know any more

    def _boot(self, boot: Mapping[str, Any]) -> bool:
        started = monotonic_ns()
        stage = "initializer"
        try:
            if boot["python"] != sys.version_info[:2]:
                refuse_bytecode(*boot["python"])
            if boot["initializer"] is not None:
                function, args = pickle.loads(boot["initializer"])
                function(*args)
            stage = "set-up"
            if boot["setup"] is not None:
                function, (args, _) = map(pickle.loads, boot["setup"])
                self._provided = checked_mapping(function, function(*args))
        except BaseException as error:
            body = pickle.dumps((stage, failure(error)), PROTOCOL)
            write_frame(self._descriptor, SETUP_FAILED, body)
            return False
        finally:
            flush_streams()
        _import_all(self._imports)
        ready = pickle.dumps((monotonic_ns() - started) / 1e9, PROTOCOL)
        write_frame(self._descriptor, READY, ready)
        return True

    def _learn_blobs(self, news: list[Any], dropped: list[str]) -> None:
        """Note where blobs are, and let go of those that no call needs any more, with the functions that hold them."""
        large_values().learn(news, dropped)
        for name in dropped:
            for number in [number for number, payload in self._large.items() if name.encode() in payload]:
                del self._large[number], self._functions[number]

    def _learn(self, number: int, payload: bytes, settings: Mapping[str, Any]) -> None:
        self._functions[number] = function = learn(number, payload, settings, self._provided)
        if VALUES_BYTES in payload:
            self._large[number] = payload
        if function.is_forked and self._forks is None:
            self._wait_for_threads()
            self._forks = Forks(self._progress, self._lifeline, self._descriptor, self._own_threads)
        if self._forks is not None:
            self._forks.is_safe = self._forks.is_frozen = False  # loading it may have brought anything

    def _run_batch(self, first: int, batch: list[tuple[int, bytes]]) -> None:
        calls = self._backlog.begin(first, batch)
        if not calls:
            return
        progress, functions, meter, outcomes = self._progress, self._functions, self._meter, self._outcomes
        if len(calls) > 1:
            self._begin_long_batch()
        number, forked = first, 0
        flushed = started = monotonic_ns()
        while calls:
            try:
                function_number, payload = calls.popleft()
            except IndexError:
                break  # taken back in between
            function = functions[function_number]
            # Before a call that may take long, and now and then: nobody waits for a result that is there.
            if outcomes and (function.tally.is_alone or started - flushed > FLUSH_AFTER_NS):
                self._send_results()
                flushed = started
            if function.is_threaded:
                self._begin_in_thread(function, payload, number)
                number += 1
                continue
            if function.is_forked:
                self._run_forked(function, payload, number, started, is_first=number - first == forked)
                number += 1
                forked += 1
                started = monotonic_ns()
                continue
            progress[0] = number
            progress[1] = started
            number += 1
            if function.tally.is_alone:
                if function.is_bounded:
                    progress[3], progress[4], progress[5] = function.bounds(started)
                outcome = meter.alone(function.tally, run, function, payload, number - 1)
                self._failures += type(outcome) is tuple
                outcomes.append(outcome)
                if function.is_bounded:
                    progress[3] = progress[4] = 0
                started = monotonic_ns()
                continue
            meter.open(started)
            outcome = run(function, payload)
            if type(outcome) is tuple:
                self._failures += 1
            outcomes.append(outcome)
            now = monotonic_ns()
            meter.note(function.tally, now - started)
            started = now
        self._is_in_batch = False
        if self._threads is not None:
            return  # each call tells of itself
        self._send_results()
        progress[1] = 0
        if self._forks is not None and number - first > forked:
            self._forks.is_safe = False  # what ran in this process may have left threads

    def _run_forked(self, function: Function, payload: bytes, number: int, started: int, is_first: bool) -> None:
        """Run a call in a child. `is_first`: nothing of this batch ran in this process before."""
        forks, progress = self._forks, self._progress
        assert forks is not None
        # In this order, so that the host never takes this call for one that runs in this process.
        progress[2], progress[0], progress[1] = FORKING, number, started
        outcome: Any
        refused = None if forks.is_safe and is_first else forks.refused()
        if refused is not None:
            outcome = refused
        else:
            outcome, figures, pid = forks.run(function, payload, number)
            outcome = self._outcome_of(function, number, shortened(outcome), figures, pid)
        progress[1] = progress[2] = 0
        if type(outcome) is tuple or type(outcome) is Ended:
            self._failures += 1
        self._outcomes.append(outcome)
        self._meter.note_child(function.tally, monotonic_ns() - started, FLUSH_AFTER_NS)

    def _begin_in_thread(self, function: Function, payload: bytes, number: int) -> None:
        if self._threads is None:
            self._threads = Threads(self._progress, self._answer)
        self._threads.begin(function, payload, number)

    def _answer(self, function: Function, number: int, outcome: Any, figures: dict[str, Any]) -> None:
        """Tell of a call that has ended in its thread."""
        flush_streams()
        if os.getpid() != self._pid:
            os._exit(0)
        irregular = [(0, *irregularity(outcome))] if type(outcome) is tuple else []
        if irregular:
            figures["exception"] = outcome[1]
        tally = function.tally.number
        times, usages = [(tally, 1, int(figures["wall_s"] * 1e9))], [(tally, 1, figures, number)]
        body = pickle.dumps(([outcome], times, usages, irregular, [number]), PROTOCOL)
        with self._sending:
            write_frame(self._descriptor, ANSWERS, body)

    def _outcome_of(self, function: Function, number: int, outcome: Any, figures: dict[str, Any], pid: int) -> Any:
        """Return the outcome of a call that ran in the child `pid`; remember what it used."""
        is_known = type(outcome) is not Ended or outcome.reason == "limit"
        if is_known:
            if type(outcome) is tuple:
                figures["exception"] = outcome[1]
            self._meter.usages.append((function.tally.number, 1, figures, number))
        return (outcome, figures, pid) if is_known and function.limits else outcome

    def _send_results(self, is_last: bool = False) -> None:
        flush_streams()
        if os.getpid() != self._pid:
            os._exit(0)  # a call has forked and come back from it: there is one outcome, not two
        with self._sending:
            self._write_outcomes(*self._meter.take(is_last))

    def _write_outcomes(self, durations: Durations, usages: Usages) -> None:
        """Write what there is. The other thread may append meanwhile, so the list stays the same object."""
        count = len(self._outcomes)
        outcomes = self._outcomes[:count]
        irregular: list[tuple[int, str, Any]] = []
        if self._failures != self._failures_told:
            irregular = _take_irregular(outcomes)
            self._failures_told += len(irregular)
        body = pickle.dumps((outcomes, durations, usages, irregular), PROTOCOL)
        del self._outcomes[:count]
        write_frame(self._descriptor, RESULTS, body)

    def _begin_long_batch(self) -> None:
        """Wake the thread that sends results which would otherwise wait behind a call that turns out to be long."""
        self._is_in_batch = True
        if not self._has_flusher:
            self._has_flusher = True
            self._start_thread(self._flush_now_and_then)
            self._wait_for_threads()
        if self._batch_runs.locked():
            self._batch_runs.release()

    def _start_thread(self, work: Callable[..., object], *args: Any) -> None:
        """Start a thread beside which a fork is safe. It must be known as one of ours before a fork looks at it."""

        def begin() -> None:
            self._own_threads.add(_thread.get_native_id())
            self._is_known.release()
            work(*args)

        self._is_known.acquire()
        _thread.start_new_thread(begin, ())

    def _wait_for_threads(self) -> None:
        """Return when every thread that was started is known as one of ours."""
        with self._is_known:
            pass

    def _flush_now_and_then(self) -> None:
        while True:
            self._batch_runs.acquire()
            while self._is_in_batch:
                sleep(FLUSH_EVERY_S)
                with self._sending:
                    if self._outcomes and self._is_in_batch:
                        self._write_outcomes([], [])

    def _listen(self, control: int) -> None:
        listen(control, self._take_back, self._end_call)

    def _take_back(self, until: int) -> None:
        first = self._backlog.take_back(until)
        with self._sending:
            if self._outcomes:
                self._write_outcomes([], [])
            write_frame(self._descriptor, RETURNED, first.to_bytes(8, "little"))

    def _end_call(self, number: int) -> None:
        if self._forks is not None:
            self._forks.end(number)


def _take_irregular(outcomes: list[Any]) -> list[tuple[int, str, Any]]:
    """Return which outcomes are no results, as (index, kind, detail), and clear those that say nothing else."""
    found: list[tuple[int, str, Any]] = []
    for index, outcome in enumerate(outcomes):
        is_limited = type(outcome) is tuple and len(outcome) == LIMITED_FIELDS
        inner = outcome[0] if is_limited else outcome
        if type(inner) is tuple:
            found.append((index, *irregularity(inner)))
        elif type(inner) is Ended and is_limited:
            outcomes[index] = (None, *outcome[1:])
            found.append((index, "limit", None))
        elif type(inner) is Ended:
            outcomes[index] = None
            found.append((index, "lost", (inner.status, inner.reason, inner.ran_s)))
    return found


class _BundledFinder:
    """Finds the modules that came with the bundle, here cloudpickle, so that both ends speak the same version."""

    def __init__(self, modules: Mapping[str, tuple[bytes | str, bool]]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._modules:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, origin="envpack bundle", is_package=self._modules[name][1])  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        import marshal

        text = self._modules[module.__name__][0]
        if isinstance(text, str):
            exec(compile(text, f"<envpack {module.__name__}>", "exec"), module.__dict__)
        else:
            exec(marshal.loads(text), module.__dict__)


def _import_all(imports: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """Import what the first call will import; what cannot be imported is left to that call, which tells why."""
    for name, names in imports:
        try:
            if names or name not in sys.modules:
                __import__(name, None, None, names, 0)
        except BaseException:
            pass


def main(
    descriptor: int,
    control: int,
    lifeline: int,
    progress: int,
    output: int,
    prints: int,
    modules: Mapping[str, tuple[bytes | str, bool]],
) -> None:
    """Serve on inherited descriptors: the socket to the host, control pipe, lifeline, shared progress words, the memory
    file for the end of what is printed, and the pipe for all of it, or -1.
    """
    for name in (descriptor, control, lifeline, progress, output, prints):
        if name >= 0:
            os.set_inheritable(name, False)
    try:
        die_with(lifeline, os.getpgid(0))
    except OSError:
        pass  # the thread that listens to the host does it as well, as soon as it gets its turn
    sys.meta_path.insert(0, _BundledFinder(modules))
    words = memoryview(mmap.mmap(progress, PROGRESS_BYTES)).cast("Q")
    os.close(progress)
    keep(words, output, prints)
    ContextServer(descriptor, control, lifeline, words).serve()
