"""Running a process of the user's code to its end, with nothing of it left behind.

It gets a session of its own, so that a program that ends its process group does not end ours. When it ends, and when
waiting for it is broken off (an error, an interrupt, a polite signal to us), the rest of its group is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

_STDERR = 2


def run_child(
    words: Sequence[str],
    *,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
    output: int = _STDERR,
    errors: int = _STDERR,
    limit_s: float | None = None,
) -> int:
    """Run a command to its end; it reads nothing from stdin.

    Args:
        words: the command line.
        folder: working folder; ours by default.
        environment: its environment; ours by default.
        output: descriptor of its stdout.
        errors: descriptor of its stderr.
        limit_s: seconds that it may take.

    Returns:
        Its exit code; negative for a signal.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=dict(environment) if environment is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )
    try:
        with _termination_as_exception():
            return process.wait(limit_s)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody of the group is left
        process.wait()


def ending(exit_code: int) -> str:
    """Say how a process ended."""
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Make SIGTERM unwind our stack, where nobody else has asked for it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def unwind(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
