"""The batches of one `Parallel` object: they wait here until one of its jobs is free, and end here.

    joblib ──submit──▶ waiting ──(n_jobs at once)──▶ executor ──▶ done ──callback thread──▶ joblib, which submits more

Guarantees: no more than `n_jobs` batches run at once, however many slots the executor has; each batch is called back
once, also when it could not be sent; what joblib does in a callback (it takes the next tasks from the user's iterator,
pickles and submits them) is done in a thread of the session, never in the manager's.
"""

from __future__ import annotations

import functools
import inspect
import logging
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from envpack_executor.environments import module_by_value
from envpack_executor.executor import ContextExecutor
from envpack_executor.joblib.arrays import Arrays
from envpack_executor.joblib.inside import make_run_batch, prepare, run_batch
from envpack_executor.joblib.named import named_in
from envpack_executor.pickling import dump
from envpack_executor.process.frames import LARGE_BYTES
from envpack_executor.process.kept import Buffers, references
from envpack_executor.tasks import Task, task
from envpack_executor.values.references import noting_needs

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Batch:
    """Some tasks that run one after another as one call; what `submit` returns to joblib.

    Args:
        callback: called with this batch when it has its end.
        future: of its call, once it was sent; or with the error for which it could not be.
        send: submits the call.
    """

    callback: Callable[[Batch], None] | None
    future: Future[list[Any]] = field(default_factory=Future)
    send: Callable[[], Future[list[Any]]] | None = None

    def result(self) -> list[Any]:
        """Return the results of its tasks, or raise what one of them raised."""
        return self.future.result()


class Session:
    """Runs the batches of one `Parallel` object.

    Args:
        executor: where they run.
        n_jobs: how many of them at once.
        arrays: how large arrays travel.
        setup: arguments of `prepare`; None where the processes need no preparation.
    """

    def __init__(self, executor: ContextExecutor, n_jobs: int, arrays: Arrays, setup: tuple[Any, ...] | None) -> None:
        self.executor = executor
        self.arrays = arrays
        self._environment = executor._resolver.environment
        self._context = None if setup is None else (prepare, *setup)
        self._tasks: dict[str, Task[..., list[Any]]] = {}
        self._needed: dict[str, dict[str, Any]] = {}
        self._most = n_jobs
        self._waiting: deque[Batch] = deque()
        self._running: set[Batch] = set()
        self._lock = threading.RLock()
        self._is_closed = False
        self._done: SimpleQueue[Batch | None] = SimpleQueue()
        # A daemon: joblib may be left with a generator that nobody ends before the interpreter does.
        self._thread = threading.Thread(target=self._deliver, name="envpack-joblib", daemon=True)
        self._thread.start()

    def submit(self, calls: Any, callback: Callable[[Any], None] | None) -> Batch:
        """Run joblib's `BatchedCalls`; arguments are taken as they are now.

        What goes wrong on the way is an error of the batch: joblib calls this in the callback thread as well, where
        nobody could catch it.
        """
        batch = Batch(callback)
        try:
            batch.send = self._pickled(calls)
        except Exception as error:
            self._fail(batch, _not_pickled(error))
            return batch
        with self._lock:
            self._waiting.append(batch)
        self._send()
        return batch

    def abort(self) -> None:
        """Drop what waits and end what runs; nothing is waited for."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            running = list(self._running)
        for batch in running:
            self.executor.cancel(batch.future)

    def close(self) -> None:
        """End the callback thread, when it has told of the batches that are done."""
        self._is_closed = True
        self._done.put(None)
        # While the interpreter ends, daemons are stopped where they are: who waits for one then waits for ever.
        if threading.current_thread() is not self._thread and not sys.is_finalizing():
            self._thread.join()
        self.arrays.close()

    def _pickled(self, calls: Any) -> Callable[[], Future[list[Any]]]:
        buffers = Buffers(LARGE_BYTES)
        with noting_needs() as needed:
            stream = dump(calls, self._by_value(calls), buffers, self.arrays.reducers())
        views = [pickle.PickleBuffer(view) for view in buffers.views]
        # The references themselves, so that the call brings what they stand for to its node.
        named = tuple(references[name]() for name in needed)
        return functools.partial(self.executor.submit, self._task(calls, stream), stream, views, named)

    def _task(self, calls: Any, stream: bytes) -> Task[..., list[Any]]:
        """Return what runs a batch, under the category of the function that its tasks call.

        Where its environment is discovered, it is made of all that batches of this function have named so far: only
        one that names something new gets another one.
        """
        function = calls.items[0][0]
        module = getattr(function, "__module__", None) or type(function).__module__
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__qualname__)
        category = f"{module}.{name}"
        new: dict[str, Any] = {}
        if self._environment == "auto":
            needed = self._needed.setdefault(category, {})
            new = {name: value for name, value in named_in(stream).items() if name not in needed}
            needed |= new
        if new or category not in self._tasks:
            runner = run_batch
            if self._environment == "auto":
                runner = make_run_batch(inspect.unwrap(function), *(needed[name] for name in sorted(needed)))
            self._tasks[category] = task(context=self._context, category=category)(runner)
        return self._tasks[category]

    def _by_value(self, calls: Any) -> str | None:
        """Return the user's own module that is not in the environment of the calls."""
        return module_by_value(inspect.unwrap(calls.items[0][0]), self._environment)

    def _send(self) -> None:
        """Submit what has room."""
        with self._lock:
            while self._waiting and len(self._running) < self._most and not self._is_closed:
                batch = self._waiting.popleft()
                assert batch.send is not None
                try:
                    batch.future = batch.send()
                except Exception as error:
                    self._fail(batch, error)
                    continue
                finally:
                    batch.send = None  # with the arguments, which the call has now
                self._running.add(batch)
                batch.future.add_done_callback(functools.partial(self._note_done, batch))

    def _fail(self, batch: Batch, error: Exception) -> None:
        batch.future.set_exception(error)
        self._done.put(batch)

    def _note_done(self, batch: Batch, future: Future[list[Any]]) -> None:
        self._done.put(batch)

    def _deliver(self) -> None:
        while (batch := self._done.get()) is not None:
            with self._lock:
                self._running.discard(batch)
            self._send()
            if batch.callback is not None:
                try:
                    batch.callback(batch)
                except Exception:
                    _log.exception("joblib could not take the result of a batch")
            del batch


def _not_pickled(error: Exception) -> Exception:
    """Return the error of a batch that cannot be sent, of the type that other backends raise."""
    refused = pickle.PicklingError(f"could not pickle the task to send to the workers: {error}")
    refused.__cause__ = error
    return refused
