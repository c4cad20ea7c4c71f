"""Live callables: what lies under their wrappers, where their source is, and what their values say.

A live function settles what its text leaves open: the content of closure cells, and globals that nothing in the file
binds. Where there is no source (`exec`, a prompt) its code object is read instead. Nothing is called.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envpack.discover.code.codefile import CodeFile
from envpack.discover.code.program import Program
from envpack.discover.code.scopes import Binding
from envpack.discover.live.travel import leave_behind
from envpack.discover.live.walk import LiveWalk
from envpack.discover.reach import Reach
from envpack.discover.target import find_code, find_function
from envpack.errors import EnvpackError, FunctionNotFoundError, TargetNotFoundError

_MAX_WRAPPERS = 100


@dataclass(frozen=True, slots=True)
class LiveFunction:
    """A callable without its wrappers.

    Attributes:
        function: what is left: a Python function, a class, or a function written in another language.
        values: what the wrappers hold: arguments of `functools.partial`, the object of a bound method.
        module: name of the module that it says it belongs to.
        path: absolute path of its source file, or an empty string.
    """

    function: types.FunctionType | type | types.BuiltinFunctionType
    values: tuple[object, ...]
    module: str
    path: str

    @property
    def name(self) -> str:
        """Its qualified name."""
        return self.function.__qualname__

    @property
    def line(self) -> int:
        """The line that it starts on; 0 where that is not known."""
        return self.function.__code__.co_firstlineno if isinstance(self.function, types.FunctionType) else 0


def locate(target: Callable[..., Any]) -> LiveFunction:
    """Take the wrappers off a callable and find its source.

    Raises:
        TargetNotFoundError: it is not callable.
    """
    values: list[object] = []
    inner: Any = target
    for _ in range(_MAX_WRAPPERS):
        if isinstance(inner, functools.partial):
            values += [*inner.args, *inner.keywords.values()]
            inner = inner.func
        elif isinstance(inner, types.MethodType):
            values.append(inner.__self__)
            inner = inner.__func__
        elif inspect.getattr_static(inner, "__wrapped__", None) is not None and not isinstance(inner, type):
            values.append(inner)
            inner = inner.__wrapped__
        elif isinstance(inner, types.FunctionType | type | types.BuiltinFunctionType):
            return LiveFunction(inner, tuple(values), _module_name(inner), _source_path(inner))
        elif callable(inner):
            values.append(inner)
            inner = type(inner)
        else:
            break
    raise TargetNotFoundError(f"not a function: {target!r}", "give a function, a class or the path of a script")


def add_live(reach: Reach, program: Program, live: LiveFunction) -> None:
    """Count what a live function reaches, and follow it to its end.

    Raises:
        FunctionNotFoundError: a class has no source to read.
    """
    function = live.function
    owner = program.finder.find(live.module)
    is_installed = owner.kind == "stdlib" or (owner.distribution is not None and not owner.distribution.is_editable)
    text = _LiveText(reach, program)
    own = frozenset({live.module}) if not is_installed else frozenset()
    walk = LiveWalk(reach, program, own, live.path, live.line, text.add)
    # The functions of the user's own modules, those under development included, travel by value.
    if is_installed and live.module != "__main__":
        reach.add_module(live.module, live.path, live.line, "runtime")
        walk.run((function, *live.values))
        reach.run()
        return
    has_text = text.add(function) if isinstance(function, types.FunctionType | type) else False
    if isinstance(function, types.FunctionType):
        walk.add_function(function, has_text=has_text)
    walk.run((function, *live.values))
    reach.run()
    around = function.__qualname__.rpartition(".")[0]
    # Of a method that stands alone nobody knows yet of which object it will be.
    if has_text and walk.is_complete and (isinstance(function, type) or around.endswith("<locals>") or not around):
        leave_behind(reach, walk.taken, live.path, frozenset(), program.finder)


class _LiveText:
    """Follows the source of live functions and classes."""

    def __init__(self, reach: Reach, program: Program) -> None:
        self._reach = reach
        self._program = program

    def add(self, function: types.FunctionType | type) -> bool:
        """Follow the source of a function or class; return whether there is any."""
        live = LiveFunction(function, (), _module_name(function), _source_path(function))
        file = _code_file(self._program, live)
        bindings = _bindings(file, live) if file is not None else []
        for binding in bindings:
            assert file is not None
            self._reach.add_function(file, binding.node, binding.scope)
        return bool(bindings)


def _module_name(function: types.FunctionType | type | types.BuiltinFunctionType) -> str:
    if function.__module__:
        return function.__module__
    # A method of a type written in another language says only whose method it is.
    owner = getattr(function, "__self__", None)
    return type(owner).__module__ if owner is not None else "builtins"


def _source_path(function: types.FunctionType | type | types.BuiltinFunctionType) -> str:
    if isinstance(function, types.BuiltinFunctionType):
        return ""
    try:
        path = inspect.getsourcefile(function)
    except (TypeError, OSError):
        return ""
    return os.path.abspath(path) if path and os.path.isfile(path) else ""


def _code_file(program: Program, live: LiveFunction) -> CodeFile | None:
    if not live.path.endswith(".py"):
        return None
    location = program.finder.find(live.module)
    if location.kind == "local" and os.path.realpath(location.file) == os.path.realpath(live.path):
        return program.module(location)
    if location.kind == "distribution":
        return None
    program.finder.add_folder(os.path.dirname(os.path.realpath(live.path)), first=True)
    try:
        return program.script(live.path)
    except EnvpackError:
        return None  # changed since it was imported: the code itself is read


def _bindings(file: CodeFile, live: LiveFunction) -> list[Binding]:
    if isinstance(live.function, type):
        try:
            return find_function(file, live.name)
        except FunctionNotFoundError:
            return []
    if not isinstance(live.function, types.FunctionType):
        return []
    found = find_code(file, live.function.__code__.co_name, live.line)
    # A method needs its class.
    return [_outermost(binding) for binding in found]


def _outermost(binding: Binding) -> Binding:
    scope, found = binding.scope, binding
    while scope.parent is not None:
        if scope.kind == "class":
            found = Binding("definition", scope.node, scope.parent)
        scope = scope.parent
    return found
