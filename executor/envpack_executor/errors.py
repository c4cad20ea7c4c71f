"""Errors of `envpack_executor`: one base, one child for each thing that a caller may want to do differently.

`exit_code` is what the command line ends with. All survive pickling, because they cross process boundaries.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError
from typing import ClassVar


class ExecutorError(Exception):
    """Base of all expected errors of this package.

    Args:
        message: a lower-case fragment with what was met and what was expected.
        hint: what to do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class TaskError(ExecutorError):
    """A task was declared in a way that cannot work."""

    exit_code: ClassVar[int] = 2


class ContextSetupError(ExecutorError):
    """The set-up function of a context failed; the remote traceback is the cause. The user's own fault."""


class ContextSetupTimeoutError(ContextSetupError):
    """The set-up of a context was not done in time; its processes were killed with all that they had started.

    Args:
        name: of the context.
        node: where it ran.
        limit_s: how long it may take, in seconds.
    """

    def __init__(self, name: str, node: str, limit_s: float) -> None:
        super().__init__(
            f"set-up of context {name!r} on {node} was not done within {limit_s:g} s, initializer included",
            "allow more by setup_timeout_s, of ContextExecutor or @task",
        )
        self.name = name
        self.node = node
        self.limit_s = limit_s

    def __reduce__(self) -> tuple[type[ContextSetupTimeoutError], tuple[str, str, float]]:
        return type(self), (self.name, self.node, self.limit_s)


class InitializerError(ExecutorError, BrokenExecutor):
    """The `initializer` of the executor failed in a context process; the executor takes no further calls."""


class InitializerTimeoutError(InitializerError):
    """The `initializer` of the executor was not done in time; the executor takes no further calls.

    Args:
        name: of the context whose process ran it.
        node: where it ran.
        limit_s: how long it may take, in seconds.
    """

    def __init__(self, name: str, node: str, limit_s: float) -> None:
        super().__init__(
            f"initializer in a process for {name!r} on {node} was not done within {limit_s:g} s",
            "allow more by ContextExecutor(setup_timeout_s=...)",
        )
        self.name = name
        self.node = node
        self.limit_s = limit_s

    def __reduce__(self) -> tuple[type[InitializerTimeoutError], tuple[str, str, float]]:
        return type(self), (self.name, self.node, self.limit_s)


class EnvironmentPreparationError(ExecutorError):
    """The environment of a call could not be found out, packed or put together; the reason is the cause."""


class ResourcesError(ExecutorError):
    """A task asks for more than any node has, and no further node can join.

    Args:
        name: of the context of its calls.
        reason: what the nodes have too little of.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"no node can ever run calls of {name!r}: {reason}", "ask for less by @task(resources=...)")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[ResourcesError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class PreparationError(ExecutorError):
    """Not as many processes of a context as were asked for have room on the nodes.

    Args:
        name: of the context.
        count: how many were asked for.
        ready: how many are ready.
    """

    def __init__(self, name: str, count: int, ready: int) -> None:
        super().__init__(
            f"{count} processes of context {name!r} asked for, {ready} are ready and no node has room for another",
            "ask for fewer, or allow more by context_memory",
        )
        self.name = name
        self.count = count
        self.ready = ready

    def __reduce__(self) -> tuple[type[PreparationError], tuple[str, int, int]]:
        return type(self), (self.name, self.count, self.ready)


class ProcessLostError(ExecutorError):
    """The context process that ran the call ended under it, as often as the call may be tried.

    Args:
        name: the function that was called.
        losses: how each try ended, in words, oldest first.
    """

    def __init__(self, name: str, losses: tuple[str, ...]) -> None:
        super().__init__(f"call of {name!r} lost its process {len(losses)} time(s): {'; '.join(losses)}")
        self.name = name
        self.losses = losses

    def __reduce__(self) -> tuple[type[ProcessLostError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.name, self.losses)


class ProcessExitedError(ExecutorError):
    """The call ended its own process (`os._exit`, or an `exit` in a library), so there is no result.

    Args:
        name: the function that was called.
        exit_status: what the process exited with.
    """

    def __init__(self, name: str, exit_status: int) -> None:
        super().__init__(f"call of {name!r} ended its process with exit status {exit_status}, expected a return")
        self.name = name
        self.exit_status = exit_status

    @classmethod
    def caused_by(cls, error: BaseException, name: str) -> ProcessExitedError:
        """Return it for a call that raised what a process ends by, such as `SystemExit`.

        Args:
            error: what was raised.
            name: the function that was called.
        """
        code = error.code if isinstance(error, SystemExit) else 1
        return cls(name, 0 if code is None else code if isinstance(code, int) else 1)

    def __reduce__(self) -> tuple[type[ProcessExitedError], tuple[str, int]]:
        return type(self), (self.name, self.exit_status)


class CallCancelledError(ExecutorError, CancelledError):
    """The call was cancelled; `CancelledError` of the standard library too.

    Args:
        name: the function that was called.
        ran_s: for how long it had run, in seconds; 0 if it had not begun.
    """

    def __init__(self, name: str, ran_s: float = 0.0) -> None:
        after = f"after it had run for {ran_s:.3g} s" if ran_s else "before it began"
        super().__init__(f"call of {name!r} was cancelled {after}")
        self.name = name
        self.ran_s = ran_s

    def __reduce__(self) -> tuple[type[CallCancelledError], tuple[str, float]]:
        return type(self), (self.name, self.ran_s)


class CallTimeoutError(ExecutorError, TimeoutError):
    """The call ran for longer than its `timeout_s`, and was ended.

    Args:
        name: the function that was called.
        limit_s: for how long it was allowed to run, in seconds.
        ran_s: for how long it had run.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, name: str, limit_s: float, ran_s: float) -> None:
        super().__init__(f"time limit exceeded: {limit_s:g} s allowed, {ran_s:.3g} s used by {name!r}")
        self.name = name
        self.limit_s = limit_s
        self.ran_s = ran_s

    def __reduce__(self) -> tuple[type[CallTimeoutError], tuple[str, float, float]]:
        return type(self), (self.name, self.limit_s, self.ran_s)


class ProcessStartError(ExecutorError):
    """A context process could not be started, or ended before it was ready for calls."""


class ForkUnsafeError(ExecutorError):
    """A call of mode `fork` was refused: its context left threads, beside which no process can be copied safely."""


class ResultError(ExecutorError):
    """The call returned, but its result could not be brought to the client."""


class PythonMismatchError(ExecutorError):
    """Code was to pass between two minor versions of Python, of which each has a bytecode of its own."""


class RemoteError(ExecutorError):
    """The call raised an exception that cannot be rebuilt in the client; its type and text are in the message."""


class ShutdownError(ExecutorError):
    """The executor was ended, by an interrupt or at once, while the call ran."""


class BlocksError(ExecutorError, BrokenExecutor):
    """Blocks of nodes failed one after another, and no node is left: the executor takes no further calls."""


class LeaseError(ExecutorError):
    """The worker that a lease of a Dask cluster has started ended with an error; the message shows its last words."""


class InternalError(ExecutorError, BrokenExecutor):
    """The executor takes no further calls because of a bug of the executor itself, with the story that led there."""


class RefusedByManagerError(ExecutorError):
    """The manager told this worker to leave, and why."""


class ManagerSilentError(ExecutorError):
    """The manager was not heard for longer than the heartbeat allows, or never answered."""


class EventLogError(ExecutorError):
    """The file of the event log cannot be opened."""


class BulkError(ExecutorError):
    """What came on the bulk channel is not what it should be, or did not come whole; it is asked for again."""


class NotHereError(BulkError):
    """The source has not what was asked for on the bulk channel: asking it again does not help."""


class ProfileError(ExecutorError):
    """The file that `ENVPACK_PROFILE` names cannot be used."""

    exit_code: ClassVar[int] = 2


class KeyFileError(ExecutorError):
    """A key file is missing, readable by others, or not one."""

    exit_code: ClassVar[int] = 2


class RemoteTraceback(Exception):
    """The traceback of an exception as it was in the process that raised it; the cause of what `result()` raises.

    Args:
        text: the formatted traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
