"""What `environment=` means, and the thread that finds it out, packs it and answers the manager.

| given | meaning | prepared |
|---|---|---|
| `None` | the interpreter of whoever hosts the process | at once |
| `"auto"` | what the function and its set-up need, discovered and packed, and nothing else | in the background |
| a folder with `bin/python`, or an interpreter | that prefix | at once |
| a pack file, a `Manifest` | an environment made of layers | in the background |
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from envpack_executor.background import BackgroundThread
from envpack_executor.errors import EnvironmentPreparationError
from envpack_executor.manager.state import ContextRecord
from envpack_executor.messages import Environment
from envpack_executor.pickling import PROTOCOL, FunctionPickler
from envpack_executor.process import frames
from envpack_executor.values.large import blobs_of, with_blobs

if TYPE_CHECKING:
    from envpack.discover.environment.distributions import DistributionIndex
    from envpack.pack import Manifest

INHERIT_ENVIRONMENT = Environment("inherit")
SetupPayload = tuple[bytes, bytes]


class ContextSink(Protocol):
    """Who is told what became of a context; both may be called from any thread."""

    def context_prepared(self, context: ContextRecord, environment: Environment, boot: bytes) -> None:
        """Its environment is known."""

    def context_failed(self, context: ContextRecord, error: BaseException) -> None:
        """It cannot be had."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """`"auto"` for another function than the one that is sent: what somebody else has wrapped around it does not count.

    Args:
        function: what it needs is discovered and packed.
        digest: of its pickle: equal functions share an environment.
        include: distributions to pack besides, for what is wrapped around it.
    """

    function: Callable[..., Any]
    digest: str
    include: tuple[str, ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], include: tuple[str, ...] = ()) -> Discovered:
        """Return the environment of a function as it is now.

        Raises:
            pickle.PicklingError, TypeError, ...: it, or something that it captures, cannot be pickled.
        """
        pickled = FunctionPickler().pickle(function, module_by_value(function, "auto"))
        return cls(function, pickled.digest, include)


@dataclass(frozen=True, slots=True)
class Request:
    """What a context was asked to be.

    Args:
        environment: as the user gave it.
        function: the function whose call asked first; `"auto"` discovers what it needs.
        setup: the set-up function, for the same reason.
        payload: set-up function and arguments as bytes; None without one.
    """

    environment: Any
    function: Callable[..., Any]
    setup: Callable[..., Any] | None
    payload: SetupPayload | None


def environment_key(environment: Any, function_digest: str) -> str:
    """Return what tells the environments of contexts apart, see `Context`.

    Raises:
        EnvironmentPreparationError: it is nothing that `environment=` may be.
    """
    if environment is None:
        return "inherit"
    if isinstance(environment, Discovered):
        return f"auto:{environment.digest}"
    if environment == "auto":
        return f"auto:{function_digest}"
    if isinstance(environment, str | os.PathLike):
        return f"path:{os.path.abspath(os.fspath(environment))}"
    manifest_id = getattr(environment, "id", None)
    if isinstance(manifest_id, str):
        return f"manifest:{manifest_id}"
    raise EnvironmentPreparationError(
        f"environment is {environment!r}, expected None, 'auto', a path or a manifest",
        "see the documentation of ContextExecutor",
    )


def module_by_value(function: Callable[..., Any], environment: Any) -> str | None:
    """Return the module whose functions travel by value into `environment`, or None if all may go by name.

    It is the function's own, if that is the user's file: it is not in the environment. And only so does each function
    need just what it uses itself; by name, the whole module would have to be imported.
    """
    if environment is None:
        return None
    name = getattr(function, "__module__", None)
    return name if isinstance(name, str) and _is_local(name) else None


def boot_frame(initializer: bytes | None, setup: SetupPayload | None) -> bytes:
    """Return the first frame of a context's processes."""
    boot = {"initializer": initializer, "setup": setup, "python": tuple(sys.version_info[:2])}
    frame = frames.encode(frames.BOOT, pickle.dumps(boot, PROTOCOL))
    payloads = [payload for payload in (initializer, *(setup or ())) if payload is not None]
    return with_blobs(frame, list(blobs_of(payloads).values()))


class Preparer:
    """Finds out the environments of contexts.

    Args:
        store: folder of the store; None for the default.
        initializer: pickled initializer of the executor and its arguments.
    """

    def __init__(self, store: str | None, initializer: bytes | None) -> None:
        self._store = store
        self._initializer = initializer
        self._requests: dict[int, Request] = {}
        self._thread = BackgroundThread("envpack-preparer")
        self._sink: ContextSink | None = None

    def answer_to(self, sink: ContextSink) -> None:
        """Send answers to `sink`."""
        self._sink = sink

    def expect(self, context: ContextRecord, request: Request) -> None:
        """Note what a new context was asked to be, before its first call is submitted."""
        if context.environment is None:
            # Only then: a request keeps its function, and with a bound method an object of the user's, alive.
            self._requests[context.number] = request

    def prepare(self, context: ContextRecord) -> None:
        """Find out the environment of `context`; the sink is told, sooner or later."""
        self._thread.run(functools.partial(self._prepare, context))

    def ready(self, request: Request) -> Environment | None:
        """Return an environment that needs no preparation, else None."""
        environment = request.environment
        if environment is None:
            return INHERIT_ENVIRONMENT
        if environment == "auto" or not isinstance(environment, str | os.PathLike):
            return None
        python = interpreter_at(Path(environment))
        return None if python is None else Environment("prefix", python=str(python))

    def run(self, job: Callable[[], None]) -> None:
        """Run something else that takes time in the same thread."""
        self._thread.run(job)

    def close(self) -> None:
        """End the thread; what it is doing is waited for."""
        self._thread.close()

    def _prepare(self, context: ContextRecord) -> None:
        assert self._sink is not None
        request = self._requests[context.number]
        try:
            environment = self._packed(request)
        except Exception as error:
            failure = EnvironmentPreparationError(f"no environment for {context.name!r}: {error}")
            failure.__cause__ = error
            self._sink.context_failed(context, failure)
            return  # the request is kept: the next call of the context tries again
        del self._requests[context.number]
        self._sink.context_prepared(context, environment, boot_frame(self._initializer, request.payload))

    def _packed(self, request: Request) -> Environment:
        from envpack.pack import Store, import_environment

        environment = request.environment
        if isinstance(environment, Discovered):
            return as_environment(self._discovered(environment.function, request.setup, environment.include))
        if environment == "auto":
            return as_environment(self._discovered(request.function, request.setup))
        if isinstance(environment, str | os.PathLike):
            return as_environment(import_environment(environment, Store(self._store)))
        Store(self._store).add_manifest(environment)
        return as_environment(environment)

    def _discovered(
        self, function: Callable[..., Any], setup: Callable[..., Any] | None, include: tuple[str, ...] = ()
    ) -> Manifest:
        from envpack.discover import analyze
        from envpack.pack import Store, pack

        dependencies = analyze(function, functions=[] if setup is None else [setup], include=include)
        return pack(dependencies, store=Store(self._store))


def as_environment(manifest: Manifest) -> Environment:
    """Return the environment that a manifest describes."""
    return Environment("manifest", manifest=manifest.canonical(), manifest_id=manifest.id)


def interpreter_at(path: Path) -> Path | None:
    """Return the interpreter of a prefix, or `path` itself when it is one, else None for a file that may be a pack.

    Raises:
        EnvironmentPreparationError: there is nothing at `path`, or a folder without an interpreter.
    """
    path = path.expanduser().absolute()
    if path.is_dir():
        python = path / "bin" / "python"
        if not os.access(python, os.X_OK):
            raise EnvironmentPreparationError(f"no interpreter in prefix {str(path)!r}: expected bin/python")
        return python
    if not path.exists():
        raise EnvironmentPreparationError(f"no pack, prefix or interpreter at {str(path)!r}")
    return path if os.access(path, os.X_OK) else None


@functools.cache
def _folders(*names: str) -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({os.path.join(os.path.realpath(paths[name]), "") for name in names})


@functools.lru_cache(maxsize=4096)
def _is_local(module_name: str) -> bool:
    """Tell whether a module is the user's own file rather than a part of an installed distribution."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if module_name == "__main__" or file is None:
        return False
    place = os.path.realpath(file)
    if not place.startswith(_folders("purelib", "platlib")):
        return not place.startswith(_folders("stdlib", "platstdlib"))
    # A pack keeps the user's own files among the installed ones; no distribution lists them.
    root = os.path.dirname(file)
    for _ in range(module_name.count(".") + (os.path.basename(file) == "__init__.py")):
        root = os.path.dirname(root)
    return _installed().owner(file, module_name, root) is None


@functools.cache
def _installed() -> DistributionIndex:
    from envpack.discover.environment.distributions import installed_distributions

    return installed_distributions(sys.path)
