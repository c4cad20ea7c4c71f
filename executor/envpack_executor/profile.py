"""Profiles: what the same program is told elsewhere, in a TOML file that `ENVPACK_PROFILE` names.

    [executor]                                  any option of `ContextExecutor` that the program leaves out
    environment = "auto"

    [nodes]                                     where calls run: "local", "remote", "provider", "dask", or a class
    kind = "provider"
    cores = 2                                   arguments of `ProviderNodes`

    [nodes.provider]                            a value that is an object: its class, and the arguments of that
    class = "parsl.providers.SlurmProvider"
    walltime = "00:30:00"
    launcher = { class = "parsl.launchers.SrunLauncher" }

Guarantees: an argument in the program wins; a key that nothing takes is an error that names file, key and the known
ones; what was made for a profile and can be closed is closed when the executor has ended.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from envpack_executor import settings
from envpack_executor.errors import ProfileError

if TYPE_CHECKING:
    from envpack_executor.nodes import NodeSource

Init = TypeVar("Init", bound=Callable[..., None])

KINDS = {
    "local": None,
    "remote": "envpack_executor.nodes.RemoteNodes",
    "provider": "envpack_executor.parsl.ProviderNodes",
    "dask": "envpack_executor.dask.DaskNodes",
}
# Arguments that are tables of one class only, which need not be named.
CLASSES = {"heartbeat": "envpack_executor.nodes.Heartbeat"}
SECTIONS = ("executor", "nodes")
# What an executor inside of Parsl or Dask must say, so that no profile does: that speaks of the program's own executor,
# of what runs in its calls, and of what these may have of the machine of the program.
OF_THE_PROGRAM: Mapping[str, Any] = {
    "max_workers": None,
    "environment": None,
    "initializer": None,
    "initargs": (),
    "cores": None,
    "memory": None,
    "context_memory": None,
    "disk": None,
    "gpus": 0,
    "allocations": None,
    "nodes": None,
}


def profiled(init: Init) -> Init:
    """Let a constructor take from the profile what it is not given; without a profile it costs one look.

    The object gets `_close_profile`, and calls it when it has ended: that closes what was made for it.
    """
    signature = inspect.signature(init)
    known = [name for name in signature.parameters if name != "self"]

    @functools.wraps(init)
    def begin(self: Any, *args: Any, **options: Any) -> None:
        path = settings.profile_path()
        if path is None:
            init(self, *args, **options)
            return
        given = signature.bind_partial(self, *args, **options).arguments
        profile = Profile.read(path)
        try:
            said = profile.options(known, given)
            self._close_profile = profile.close
            init(self, *args, **said, **options)
        except BaseException as error:
            profile.close()  # also where nodes were opened: what was closed is not closed again
            error.add_note(f"ENVPACK_PROFILE names {path}")
            raise

    return cast(Init, begin)


class Profile:
    """What a file says.

    Args:
        path: of the file.
        tables: what stands in it.

    Raises:
        ProfileError: a section is unknown, or is no table.
    """

    def __init__(self, path: Path, tables: Mapping[str, Any]) -> None:
        self._path = path
        self._made: list[Any] = []
        self._check("", tables, SECTIONS)
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise self._error(name, f"is {table!r}, expected a table")
        self._tables = tables

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read a file.

        Raises:
            ProfileError: it cannot be read, or is no TOML.
        """
        import tomllib  # for those who have a profile

        try:
            return cls(path, tomllib.loads(path.read_text()))
        except OSError as error:
            raise ProfileError(f"profile {path} cannot be read: {error.strerror}", "see ENVPACK_PROFILE") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"profile {path} is no TOML: {error}") from error

    def options(self, known: Iterable[str], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that were not given; a `false` is a None.

        Args:
            known: names of all options.
            given: what the program says itself.

        Raises:
            ProfileError: something in the file cannot be used.
        """
        table = self._tables.get("executor", {})
        self._check("executor", table, [name for name in known if name != "nodes"])
        said = {
            name: None if value is False else self._value(f"executor.{name}", name, value)
            for name, value in table.items()
            if name not in given
        }
        if isinstance(listed := said.get("initargs"), list):
            said["initargs"] = tuple(listed)
        if "nodes" not in given and (nodes := self._nodes(self._tables.get("nodes", {}))) is not None:
            said["nodes"] = nodes
        return said

    def close(self) -> None:
        """Close what was made, the last first."""
        while self._made:
            self._made.pop().close()

    def _nodes(self, table: Mapping[str, Any]) -> NodeSource | None:
        if not table:
            return None
        arguments = dict(table)
        kind = arguments.pop("kind", None)
        if kind not in KINDS and "." not in str(kind):
            raise self._error("nodes.kind", f"is {kind!r}, expected {_listed(KINDS)} or the dotted name of a class")
        where = KINDS.get(kind, kind)
        if where is None:
            self._check("nodes", arguments, ())
            return None
        return cast("NodeSource", self._make("nodes", where, arguments, is_ours=False))

    def _value(self, key: str, name: str, value: Any) -> Any:
        """Return what a value in the file stands for."""
        if isinstance(value, list):
            return [self._value(f"{key}[{number}]", "", each) for number, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        arguments = dict(value)
        if "function" in arguments:
            self._check(key, arguments, ("function",))
            return self._found(f"{key}.function", arguments["function"])
        where = arguments.pop("class", CLASSES.get(name))
        if where is None:
            return {word: self._value(f"{key}.{word}", "", each) for word, each in value.items()}
        return self._make(key, where, arguments, is_ours=True)

    def _make(self, key: str, where: str, table: Mapping[str, Any], is_ours: bool) -> Any:
        """Return an object of the class `where`; one of ours is closed in the end, if it can be."""
        kind = self._found(f"{key}.class", where)
        names = _arguments_of(kind)
        if names is not None:
            self._check(key, table, names)
        arguments = {name: self._value(f"{key}.{name}", name, value) for name, value in table.items()}
        try:
            made = kind(**arguments)
        except Exception as error:
            raise self._error(key, f"cannot be made: {where}: {type(error).__name__}: {error}") from error
        if is_ours and callable(getattr(made, "close", None)):
            self._made.append(made)
        return made

    def _found(self, key: str, where: Any) -> Any:
        """Return what stands behind a dotted name."""
        module, _, name = where.rpartition(".") if isinstance(where, str) else ("", "", "")
        if not module:
            raise self._error(key, f"is {where!r}, expected a dotted name such as 'parsl.providers.SlurmProvider'")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise self._error(key, f"names {where!r}, which cannot be imported: {error}") from error

    def _check(self, key: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        """See that every key is known; all that are not are told at once."""
        if unknown := sorted(table.keys() - set(known)):
            names = ", ".join(repr(f"{key}.{name}".lstrip(".")) for name in unknown)
            raise ProfileError(f"profile {self._path}: unknown {names}, expected one of {_listed(known)}")

    def _error(self, key: str, problem: str) -> ProfileError:
        return ProfileError(f"profile {self._path}: {key!r} {problem}")


def _arguments_of(kind: Callable[..., Any]) -> list[str] | None:
    """Return the names of the arguments that a class takes; None where it takes any, or does not say."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing here"
