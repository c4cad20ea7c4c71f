"""What a Dask worker takes for one of its executors: it hands each call on to a `ContextExecutor` of the worker's own.

    Dask worker ──task──▶ thread of the bridge ──call──▶ ContextExecutor ──▶ context process
         ▲                     │ waits                                             │
         └──message of Dask────┴────────── result or exception ◀───────────────────┘

The thread runs what Dask would have run, with the call exchanged for one that waits for its result. So the message that
Dask gets back is made by Dask's own code: times, size, type, exception. There are as many threads as Dask runs tasks at
once, and all that they do is wait.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

from distributed import Reschedule

from envpack_executor.dask.calls import call_of
from envpack_executor.errors import ProcessExitedError
from envpack_executor.executor import ContextExecutor
from envpack_executor.profile import OF_THE_PROGRAM

if TYPE_CHECKING:
    from envpack_monitor import Usage

_log = logging.getLogger(__name__)

OnEvent = Callable[[dict[str, Any]], object]
"""Takes what a task has used, as what JSON can hold."""


class Bridge(futures.Executor):
    """Runs tasks of one Dask worker in contexts.

    Args:
        slots: how many tasks Dask runs at once.
        on_event: is told what each task has used.
        options: of the `ContextExecutor`.
    """

    # Not a thread pool by inheritance: to those Dask passes what cannot leave its process.

    def __init__(self, slots: int, on_event: OnEvent, options: dict[str, Any]) -> None:
        options = {**OF_THE_PROGRAM, "max_workers": slots, **options, "nodes": None}
        self._executor = ContextExecutor(**options, on_usage=self._note)
        self._threads = futures.ThreadPoolExecutor(slots, "envpack-dask")
        self._on_event = on_event
        self._usages: dict[futures.Future[Any], Usage] = {}
        self._lock = threading.Lock()
        self._is_closing = False

    @property
    def executor(self) -> ContextExecutor:
        """The executor that runs the calls."""
        return self._executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Run what Dask wants to run.

        Args:
            fn: Dask's function, which makes the message for the scheduler.
            *args: the node of the graph, and what else that function takes.
            **kwargs: likewise.
        """
        node, *others = args
        return self._threads.submit(fn, _Away(node, self._run), *others, **kwargs)

    def close(self) -> None:
        """Take no further tasks; end when those that run have their ends."""
        self._threads.shutdown()
        self._executor.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End at once, because the Dask worker does; Dask is asked to run elsewhere what runs here.

        Args:
            wait: makes no difference for the calls, whose processes are killed; otherwise, return when nothing is left.
            cancel_futures: makes no difference.
        """
        self._is_closing = True
        self._executor.kill()
        self._threads.shutdown(wait, cancel_futures=True)

    def _run(self, node: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = call_of(node, args, kwargs)
        if call is None:
            return node(*args, **kwargs)
        future = self._executor.submit(call.function, *call.args, **call.kwargs)
        failure = ""
        try:
            return future.result()
        except BaseException as error:
            failure = type(error).__name__
            self._raise(error, call.function)
        finally:
            self._end(future, getattr(node, "key", None), failure)

    def _raise(self, error: BaseException, function: Callable[..., Any]) -> NoReturn:
        if self._is_closing:
            raise Reschedule from error
        if isinstance(error, SystemExit | KeyboardInterrupt):
            # Dask would take them for its own end.
            raise ProcessExitedError.caused_by(error, getattr(function, "__qualname__", repr(function))) from error
        raise error

    def _end(self, future: futures.Future[Any], key: object, failure: str) -> None:
        with self._lock:
            usage = self._usages.pop(future, None)
        if usage is not None:
            self._tell(usage, {"key": str(key)}, failure)

    def _note(self, usage: Usage, future: futures.Future[Any] | None) -> None:
        """Keep a usage until its call is done, which comes next; of short calls together nothing more is known."""
        if future is None:
            self._tell(usage, {}, "")
            return
        with self._lock:
            self._usages[future] = usage

    def _tell(self, usage: Usage, about: dict[str, Any], failure: str) -> None:
        told = {"failure": failure} if failure else {}
        self._on_event({**about, **usage.to_dict(), **told})


class Coming(futures.Executor):
    """Stands where a bridge will be: what is submitted meanwhile waits for it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[futures.Future[Any], Callable[..., futures.Future[Any]]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Keep a task for the bridge."""
        future: futures.Future[Any] = futures.Future()
        self._waiting.append((future, lambda bridge: bridge.submit(fn, *args, **kwargs)))
        return future

    def go_on(self, bridge: Bridge) -> None:
        """Hand all to the bridge; called in the loop of the worker, as `submit` is."""
        for future, submit in self._waiting:
            if future.set_running_or_notify_cancel():
                submit(bridge).add_done_callback(functools.partial(_pass_on, future))
        self._waiting.clear()

    def fail(self, error: BaseException) -> None:
        """End all: there will be no bridge."""
        for future, _ in self._waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        self._waiting.clear()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let what waits run elsewhere, because the Dask worker ends."""
        self.fail(Reschedule())


def _pass_on(to: futures.Future[Any], done: futures.Future[Any]) -> None:
    error = done.exception()
    if error is None:
        to.set_result(done.result())
    else:
        to.set_exception(error)


class _Away:
    """Stands for a node of Dask's graph; calling it lets it run elsewhere."""

    def __init__(self, node: Callable[..., Any], run: Callable[..., Any]) -> None:
        self._node = node
        self._run = run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._node, args, kwargs)
