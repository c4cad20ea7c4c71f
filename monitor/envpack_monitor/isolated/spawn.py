"""A fresh interpreter for one isolated call: it knows nothing but what is sent, and is as small as it was at its start.

What is sent, through a pipe: first the interpreter's own preparation (import path, arguments, folder, main module: the
standard library's, as for its own spawned processes), then the function with its arguments as a pickle. A function of
the main script is found because the script is run again as `__mp_main__`; what must not run again stands under
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from envpack_monitor.calls.bracket import Bracket
from envpack_monitor.errors import CallNotPicklable
from envpack_monitor.isolated import inner
from envpack_monitor.trees.marks import Mark

# Only built-in modules before the import path is this process's: a file beside the script must not get in between.
_PROGRAM = """
import sys, marshal, posix
def take(count):
    data = b""
    while len(data) < count:
        more = posix.read({calls}, count - len(data))
        if not more:
            posix._exit(70)
        data += more
    return data
sys.path[:] = marshal.loads(take(int.from_bytes(take(8), "little")))
from envpack_monitor.isolated.spawn import serve
serve({calls}, {results}, {parent}, {watched})
"""


@dataclass(frozen=True, slots=True)
class _Behind:
    """A function that stands behind a decorator: its own name leads to the decorated one.

    Args:
        front: what the name leads to.
        steps: how many `__wrapped__` are between.
    """

    front: Any
    steps: int

    def found(self) -> Any:
        function = self.front
        for _ in range(self.steps):
            function = function.__wrapped__
        return function


def start_fresh(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], mark: Mark, *, is_watched: bool
) -> tuple[int, int]:
    """Start the interpreter; return its process and the end of the pipe that it writes to.

    Raises:
        CallNotPicklable: the function or its arguments cannot travel.
    """
    call = _packed_call(function, args, kwargs, mark)
    calls_out, calls_in = os.pipe2(os.O_CLOEXEC)
    results_out, results_in = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _start(calls_out, results_in, is_watched)
    except BaseException:
        for fd in (calls_in, results_out):
            os.close(fd)
        raise
    finally:
        os.close(calls_out)
        os.close(results_in)
    _send(calls_in, call)
    return pid, results_out


def serve(calls: int, results: int, parent: int, is_watched: bool) -> NoReturn:
    """Be the fresh interpreter: take one call, make it and leave."""
    from multiprocessing import spawn

    try:
        for fd in (calls, results):
            os.set_inheritable(fd, False)
        with open(calls, "rb") as pipe:
            data = pipe.read()
        source = io.BytesIO(data)
        mark, preparation = pickle.load(source)
        inner.settle(parent, mark)
        spawn.prepare(preparation)
        function, args, kwargs = pickle.load(source)
        if isinstance(function, _Behind):
            function = function.found()
    except BaseException as error:
        inner.fail_to_begin(results, error)
    del source, data
    # From here on the call's time counts.
    os.write(results, inner.LENGTH.pack(0))
    inner.run_to_end(results, Bracket(), function, args, kwargs, is_watched=is_watched)


def _start(calls_out: int, results_in: int, is_watched: bool) -> int:
    program = _PROGRAM.format(calls=calls_out, results=results_in, parent=os.getpid(), watched=is_watched)
    process = subprocess.Popen(
        [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", program],  # type: ignore[attr-defined]
        pass_fds=(calls_out, results_in),
        start_new_session=True,
    )
    # It is waited for by its number, with its usage; Popen must not do it again, nor complain that nobody did.
    process.returncode = 0
    return process.pid


def _packed_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], mark: Mark) -> bytes:
    import marshal
    from multiprocessing import spawn

    preparation = spawn.get_preparation_data("isolated")
    # What multiprocessing's own processes have and these do not need.
    del preparation["authkey"]
    # Python's own search path entries are texts; whatever else somebody has put there, only texts can be sent.
    path = marshal.dumps([entry for entry in preparation["sys_path"] if isinstance(entry, str)])
    # What was typed into a console has no file to run again: it travels by value.
    has_main = preparation.keys() & {"init_main_from_path", "init_main_from_name"}
    try:
        call = inner.dumps((_portable(function), args, kwargs), by_value=not has_main)
    except Exception as error:
        raise CallNotPicklable(f"{function!r} or its arguments cannot be pickled: {error}", "isolate='fork'") from error
    return inner.LENGTH.pack(len(path)) + path + pickle.dumps((mark, preparation)) + call


def _portable(function: Any) -> Any:
    """Return what can be pickled by name in the place of a function that a decorator hides."""
    front: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in (getattr(function, "__qualname__", None) or "?").split("."):
        front = getattr(front, name, None)
    steps, behind = 0, front
    while behind is not None and behind is not function:
        steps, behind = steps + 1, getattr(behind, "__wrapped__", None)
    return function if behind is None or not steps else _Behind(front, steps)


def _send(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb", buffering=0) as pipe:
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]
    except BrokenPipeError:
        # It died at once; how, the caller sees when it waits for it.
        return
