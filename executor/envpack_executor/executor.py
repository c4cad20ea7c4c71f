"""`ContextExecutor`: a `concurrent.futures.Executor` whose calls run in retained contexts.

    submit ──▶ function and arguments as bytes ──▶ context (by content) ──▶ manager's loop ──▶ context processes

Which context a call belongs to is found out by `resolving`; everything after that is the manager's
(`envpack_executor.manager`).
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from envpack_executor import settings
from envpack_executor.environments import Preparer
from envpack_executor.futures import CallFuture
from envpack_executor.lifetime import Gate, close_at_end
from envpack_executor.manager.events import NodeJoined
from envpack_executor.manager.learned import AllocationChoice, make_sizer
from envpack_executor.manager.loop import ManagerLoop
from envpack_executor.manager.overview import NodeStatus
from envpack_executor.manager.printer import OutputChoice, printer
from envpack_executor.manager.residence import ContextUse, uses
from envpack_executor.manager.state import ManagerState, Preparation
from envpack_executor.manager.usage import CategoryUsage, HistoryChoice, UsageSink
from envpack_executor.messages import NodeId
from envpack_executor.nodes import NodeSource
from envpack_executor.pickling import dump, dump_arguments, put
from envpack_executor.profile import profiled
from envpack_executor.resolving import Resolver
from envpack_executor.values.references import Kept
from envpack_monitor.allocation import Allocation
from envpack_monitor.units import parse_bytes

if TYPE_CHECKING:
    from envpack_executor.linewriter import LineWriter
    from envpack_executor.manager.sized import Promise, Wait
    from envpack_executor.manager.told import OnUsage, UsageTeller
    from envpack_monitor.predict import Predictor

P = ParamSpec("P")
R = TypeVar("R")

MAX_TRIES = 3
SETUP_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """What an executor has done so far.

    Args:
        set_ups: context processes that became ready: how often interpreter, imports and set-up were paid.
        processes: context processes there are now.
        pids: theirs on their nodes.
        nodes: machines that host them.
        open_calls: calls that have no end yet.
        waiting: those of them that were not sent to any process.
        categories: what finished calls have used.
        promises: the calls that run under an allocation, and what they were promised; empty without `allocations`.
        waits: why calls wait, by category, the next one first; likewise.
        contexts: what became of each context.
    """

    set_ups: int
    processes: int
    pids: tuple[int, ...]
    nodes: int
    open_calls: int
    categories: dict[str, CategoryUsage]
    promises: tuple[Promise, ...] = ()
    waits: tuple[Wait, ...] = ()
    contexts: tuple[ContextUse, ...] = ()
    waiting: int = 0


class ContextExecutor(Executor):
    """Run calls in warm processes that keep environment, code and set-up result of a function.

    What is left out here may be said by the file that `ENVPACK_PROFILE` names: options, and the nodes.

    Args:
        max_workers: how many calls run at once on this machine; the cores that this process may use by default. With
            `nodes`, that many run here beside those of the nodes, and none by default.
        environment: where calls run. None: the interpreter that runs. `"auto"`: what the function needs is discovered
            and packed, and its processes see nothing else. A path: of a pack, of a prefix (a folder with
            `bin/python`), or of an interpreter. A `Manifest`.
        initializer: called once in each context process before its set-up.
        initargs: its arguments.
        nodes: where workers on other machines come from, such as `RemoteNodes`, which lets them join.
        store: folder of the store of layers; `ENVPACK_STORE` by default.
        history: file where the usage of calls is kept, None for none; `ENVPACK_HISTORY` by default.
        max_tries: a call whose process or node is lost so often is given back with `ProcessLostError`.
        allocations: None: as many calls run at once as there are workers. `"auto"`: as many as fit by what earlier
            calls like them have used, and no more than there are workers. A `Predictor` of your own.
        memory: what all calls on this machine may have together, in bytes or as `"6GB"`; nine tenths of what there is
            by default. Without `allocations` only calls of tasks that ask for memory are counted.
        cores: likewise of its cores; with `allocations` all that this process may use by default, otherwise as many as
            there are workers.
        context_memory: what warm processes on this machine may keep in memory between calls, all together, in bytes or
            as `"8GB"`; half of what this process may use by default. When a new one needs room, the one that is worth
            least leaves: set-up time x calls per second, per byte.
        setup_timeout_s: a context process that is not ready after so long, in seconds, is killed, and its calls end
            with `ContextSetupTimeoutError`; `@task` may say another time.
        idle_timeout_s: a process that had nothing to do for so long leaves, with what it has set up; None for never.
        events: file to which every transition of calls, processes, contexts and nodes is appended as a line of JSON;
            `ENVPACK_EVENTS` by default, and none without it.
        disk: what calls of tasks that ask for disk may write on this machine, all together; None for no bound.
        gpus: how many GPUs of this machine calls of tasks that ask for some may use. If there are any, each process
            sees those alone that its calls ask for.
        output: where what calls print by Python appears. `"inherit"`: where that of their worker does. `"stream"`: in
            `sys.stdout` and `sys.stderr` here, on whichever machine they run. A function of category, `"stdout"` or
            `"stderr"`, and text: it takes it, in a thread of the executor, which waits for it.
        on_usage: a function that is told what each call has used, before its future is done, by the same thread: a
            `Usage`, and the future; None instead of that where it is the sum of several calls that are too short to be
            measured alone.

    Raises:
        ValueError: a number, a size or a time is not positive, or `output` is unknown.
        ProfileError: the file that `ENVPACK_PROFILE` names cannot be used.
        TypeError: `initializer` cannot be called, or `allocations` is no predictor.
        HistoryError: of `allocations="auto"`: the history cannot be read.
        EventLogError: the file of `events` cannot be opened.
    """

    _close_profile: Callable[[], None] | None = None

    @profiled
    def __init__(
        self,
        max_workers: int | None = None,
        *,
        environment: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        nodes: NodeSource | None = None,
        store: str | os.PathLike[str] | None = None,
        history: HistoryChoice = "default",
        max_tries: int = MAX_TRIES,
        allocations: Predictor | AllocationChoice = None,
        memory: int | str | None = None,
        cores: float | None = None,
        context_memory: int | str | None = None,
        setup_timeout_s: float = SETUP_TIMEOUT_S,
        idle_timeout_s: float | None = None,
        events: str | os.PathLike[str] | None = None,
        disk: int | str | None = None,
        gpus: int = 0,
        output: OutputChoice = "inherit",
        on_usage: OnUsage | None = None,
    ) -> None:
        _check(max_workers, {"setup_timeout_s": setup_timeout_s, "idle_timeout_s": idle_timeout_s}, initializer)
        on_print = printer(output)
        slots = max_workers or (settings.usable_cores() if nodes is None else 0)
        here = None if allocations is None else _allowed(memory, cores)
        offer = _offer(slots, here or _said(memory, cores), context_memory, disk, gpus)
        # Of workers elsewhere nothing is known before they join.
        sizer = make_sizer(allocations, history, here if nodes is None else None)
        log = _event_log(events)
        self._numbers = itertools.count()
        self._gate = Gate()
        self._usage = UsageSink(history)
        folder = None if store is None else os.fspath(store)
        boot = None if initializer is None else dump((initializer, tuple(initargs)))
        preparer = Preparer(folder, boot)
        self._loop = ManagerLoop(
            preparer.prepare,
            self._gate.breaks,
            self._usage,
            folder,
            ManagerState(max_tries, setup_timeout_s, idle_timeout_s, can_join=nodes is not None),
            sizer,
            log,
            on_print,
        )
        on_memory_asked = functools.partial(self._loop.know_memory, settings.usable_memory)
        self._resolver = Resolver(
            environment, boot, preparer, is_sized=sizer is not None, on_memory_asked=on_memory_asked
        )
        self._loop.reception.teller = _teller(on_usage)
        preparer.answer_to(self._loop)
        self._loop.add_closer(preparer.close)
        if log is not None:
            self._loop.add_closer(log.close)
        self._loop.add_closer(self._resolver.release)
        if slots:
            self._run_here(offer, None if context_memory is not None else preparer)
        if nodes is not None:
            self._run_on(nodes)
        if self._close_profile is not None:
            self._loop.add_closer(self._close_profile)  # the last: others may still use what it closes
        self._loop.start()
        close_at_end(self, self._loop, self._gate)

    def _run_here(self, offer: NodeJoined, preparer: Preparer | None) -> None:
        """Let calls run on this machine; with a preparer, it finds out what warm processes may keep."""
        self._loop.add_local_node(offer)
        if preparer is not None:
            # When it is first needed, in another thread: it takes milliseconds.
            self._loop.reception.on_first_kept = functools.partial(preparer.run, _bound_contexts(self._loop))

    def _run_on(self, nodes: NodeSource) -> None:
        """Let calls run where nodes come from."""
        try:
            nodes.open(self._loop, _resident)
        except BaseException:
            self._loop.abandon()
            raise

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule a call of `fn` and return its future.

        Args:
            fn: a function, `@task` or `@monitor`-ed function, or any callable that can be pickled.
            *args: its arguments, taken as they are now.
            **kwargs: likewise.

        Raises:
            RuntimeError: the executor, or the interpreter, shuts down.
            BrokenExecutor: the initializer failed, or the executor itself.
            pickle.PicklingError, TypeError: the function or an argument cannot be pickled.
        """
        resolved = self._resolver.resolve(fn)
        payload = dump_arguments(args, kwargs, resolved.by_value)
        call: CallFuture[R] = CallFuture(
            next(self._numbers), resolved.function, resolved.context, payload, self._loop.note_cancel
        )
        self._gate.check()
        if resolved.features is not None:
            call.features = resolved.features(args, kwargs)
        self._loop.submit(call)
        return call

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Call `fn` for each item, or each tuple of items of several iterables, and return the results in order.

        Items are taken from the iterables as they are needed, so there may be millions of them. What is left when the
        executor shuts down without `cancel_futures` is submitted then, unless there is a `buffersize`: so an iterator
        over infinitely many items must have one, or be closed before. Closing cancels what has not begun.

        Args:
            fn: see `submit`.
            *iterables: the arguments, by position; the shortest of them ends the map.
            timeout: seconds, counted from here, after which the next result raises `TimeoutError`.
            chunksize: accepted for compatibility: calls travel in batches by how long they take.
            buffersize: how many calls are submitted and not consumed at most; None for as many as keep all workers
                busy, and no more than 64 MB of arguments and results.

        Raises:
            ValueError: `chunksize` or `buffersize` is less than 1.
            TypeError: `buffersize` is no integer, or an argument cannot be iterated.
            RuntimeError: the executor, or the interpreter, shuts down.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._gate.check()
        submit = functools.partial(self.submit, fn)
        return self._gate.feeds.start(submit, iterables, self._loop.slots, buffersize, timeout)

    def cancel(self, future: Future[Any]) -> bool:
        """End a call wherever it is, also while it runs. Its future ends with `CallCancelledError`.

        A running call in mode `fork` is killed alone. Otherwise its process is killed and, if other calls need it,
        started anew; those that stood behind the call run again. A result that comes first stays one. What runs in
        mode `thread` cannot be ended.

        Args:
            future: what `submit` has returned.

        Returns:
            False if the call had its end before, or runs in mode `thread`; True if it was cancelled, or is being ended:
            then its future, within moments, has an end.

        Raises:
            TypeError: `future` is not of a `ContextExecutor`.
        """
        call = _call_of(future)
        if call.cancel():
            return True
        if call.done():
            return False
        self._loop.request_cancel(call)
        return not call.context.is_threaded

    def why(self, future: Future[Any]) -> str:
        """Say in words what a call waits for, since when it runs and where, or how it ended.

        Args:
            future: what `submit` has returned.

        Raises:
            TypeError: `future` is not of a `ContextExecutor`.
        """
        return self._loop.why(_call_of(future))

    def put(self, value: R) -> Kept[R]:
        """Take a value that many calls need; return what stands for it in their arguments.

        It is pickled once and has its bytes in memory once on each node, however many calls and processes use it. A
        process unpickles it once; its calls share the object, and its buffers cannot be written.

        Args:
            value: taken as it is now. Equal values (of equal pickles) are one.

        Returns:
            A reference that may stand anywhere inside arguments of calls and set-up functions. When the last one is
            gone and no call needs it, the value is freed everywhere.

        Raises:
            MemoryError: there is not enough memory for it.
            pickle.PicklingError, TypeError: it cannot be pickled.
        """
        return put(value)

    def prepare(self, fn: Callable[..., Any], /, n: int = 1) -> Future[None]:
        """Let `n` processes of the context of `fn` be ready before a call needs them.

        They start as far as slots are free, and stay like any others.

        Args:
            fn: what will be submitted.
            n: how many processes; those that are there count.

        Returns:
            A future that is done when so many are ready. It ends with the error of the set-up if that fails, and with
            `PreparationError` if so many have no room.

        Raises:
            ValueError: `n` is not positive.
            RuntimeError, BrokenExecutor, pickle.PicklingError, TypeError: as `submit`.
        """
        if n <= 0:
            raise ValueError(f"n must be greater than 0, not {n!r}")
        resolved = self._resolver.resolve(fn)
        self._gate.check()
        ticket: Future[None] = Future()
        ticket.set_running_or_notify_cancel()
        self._loop.prepare(Preparation(resolved.context, n, resolved.function, ticket))
        return ticket

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls; end when those accepted have their ends.

        Args:
            wait: return only when nothing of the executor is left: no process, thread, socket or temporary file.
            cancel_futures: drop the calls that have not begun.
        """
        if cancel_futures:
            self._gate.feeds.cancel()
        else:
            self._gate.feeds.drain()
        self._gate.close()
        self._loop.request_close(is_cancelling=cancel_futures)
        if wait:
            self._loop.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shut down; at once and without waiting for calls when the user interrupts."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill()
            return
        self.shutdown(wait=True)

    def kill(self, error: BaseException | None = None) -> None:
        """End now; return when nothing of the executor is left. Calls that run are killed with their processes.

        Args:
            error: which every call that has no end gets. By default those that have not begun are cancelled, and the
                others end with `ShutdownError`.
        """
        self._gate.feeds.cancel()
        self._gate.close()
        self._loop.request_kill(error)
        self._loop.join()

    def stats(self) -> ExecutorStats:
        """Return what the executor has done so far."""
        state, sized = self._loop.state, self._loop.sized
        processes = list(state.processes.values())
        return ExecutorStats(
            set_ups=state.set_ups,
            processes=len(processes),
            pids=tuple(process.pid for process in processes if process.pid),
            nodes=len(state.nodes),
            open_calls=state.open_calls,
            categories={name: copy.copy(usage) for name, usage in list(self._usage.categories.items())},
            promises=() if sized is None else tuple(sized.promises()),
            waits=() if sized is None else tuple(sized.waits()),
            contexts=uses(state),
            waiting=self._loop.waiting(),
        )

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return how each machine stands that hosts context processes.

        Raises:
            TimeoutError: a callback of the user holds the executor up.
        """
        return self._loop.nodes()

    def drain(self, node: str, reason: str = "it was told to leave") -> None:
        """Let a worker leave, as `envpack worker` does on SIGTERM, but whenever the calls that run there have ended.

        Args:
            node: its id, from `nodes`.
            reason: in words; the worker tells it when it leaves.

        Raises:
            ValueError: no such worker is there; this machine cannot leave.
            TimeoutError: as `nodes`.
        """
        if not self._loop.drain(NodeId(node), reason):
            raise ValueError(
                f"no worker {node!r} is there; expected the `node` of one of `nodes()` that is not 'local'"
            )


def _event_log(path: str | os.PathLike[str] | None) -> LineWriter | None:
    chosen = settings.events_path() if path is None else path
    if chosen is None:
        return None
    from envpack_executor.linewriter import LineWriter  # for those who ask for it

    return LineWriter(chosen)


def _teller(on_usage: OnUsage | None) -> UsageTeller | None:
    if on_usage is None:
        return None
    from envpack_executor.manager.told import UsageTeller  # likewise

    return UsageTeller(on_usage)


def _call_of(future: Future[Any]) -> CallFuture[Any]:
    if not isinstance(future, CallFuture):
        raise TypeError(f"expected a future of ContextExecutor.submit, not {type(future).__qualname__}")
    return future


def _allowed(memory: int | str | None, cores: float | None) -> Allocation:
    """Return what calls on this machine may have, all together."""
    said = _said(memory, cores)
    return Allocation(
        cores=said.cores or settings.usable_cores(),
        memory_bytes=settings.usable_memory() if said.memory_bytes is None else said.memory_bytes,
    )


def _checked_bytes(name: str, size: int | str) -> int:
    size_bytes = parse_bytes(size) if isinstance(size, str) else size
    if size_bytes <= 0:
        raise ValueError(f"{name} must be greater than 0, not {size!r}")
    return size_bytes


def _said(memory: int | str | None, cores: float | None) -> Allocation:
    """Return what was said about this machine."""
    if cores is not None and cores <= 0:
        raise ValueError(f"cores must be greater than 0, not {cores!r}")
    return Allocation(cores=cores or 0.0, memory_bytes=None if memory is None else _checked_bytes("memory", memory))


def _check(max_workers: int | None, times_s: Mapping[str, float | None], initializer: object) -> None:
    """Refuse options that can be none, before anything is made."""
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    for name, seconds in times_s.items():
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} must be greater than 0, not {seconds!r}")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


def _offer(
    slots: int, here: Allocation, context_memory: int | str | None, disk: int | str | None, gpus: int
) -> NodeJoined:
    """Return what this machine offers to calls."""
    if gpus < 0:
        raise ValueError(f"gpus must be 0 or more, not {gpus!r}")
    return NodeJoined(
        NodeId("local"),
        "this machine",
        slots,
        _resident(slots),
        cores=here.cores,
        memory_bytes=here.memory_bytes,
        disk_bytes=None if disk is None else _checked_bytes("disk", disk),
        gpus=gpus,
        host=os.uname().nodename,
        python="{}.{}.{}".format(*sys.version_info),
        context_bytes=None if context_memory is None else _checked_bytes("context_memory", context_memory),
    )


def _bound_contexts(loop: ManagerLoop) -> Callable[[], None]:
    return lambda: loop.bound_contexts(settings.usable_memory() // 2)


def _resident(slots: int) -> int:
    """Return how many context processes a node keeps at most: each costs its host a few descriptors of perhaps 1024."""
    return max(128, 2 * slots)
