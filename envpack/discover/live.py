"""Live callables: what lies under their wrappers, where their source is, and what their values say.

A live function settles what its text leaves open: the content of closure cells, and globals that nothing in the file
binds. Where there is no source (`exec`, a prompt) its code object is read instead. Nothing is called.
"""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import os
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from envpack.discover.codefile import CodeFile
from envpack.discover.program import Program
from envpack.discover.reach import Reach
from envpack.discover.scopes import Binding
from envpack.discover.target import find_code, find_function
from envpack.errors import FunctionNotFoundError, TargetNotFoundError

_MAX_ELEMENTS = 1000
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
    """Count what a live function reaches.

    Raises:
        FunctionNotFoundError: a class has no source to read.
    """
    function = live.function
    file = _code_file(program, live)
    bindings = _bindings(file, live) if file is not None else []
    owner = program.finder.find(live.module)
    is_installed = owner.kind == "stdlib" or (owner.distribution is not None and not owner.distribution.is_editable)
    # The functions of the user's own modules, those under development included, travel by value.
    if is_installed and live.module != "__main__":
        reach.add_module(live.module, live.path, live.line, "runtime")
    elif file is not None and bindings:
        for binding in bindings:
            reach.add_function(file, binding.node, binding.scope)
    elif isinstance(function, type):
        raise FunctionNotFoundError(f"no source for class {live.name!r}", "define it in a file")
    walk = _ValueWalk(reach, program, live)
    if isinstance(function, types.FunctionType):
        walk.function(function, None if not bindings else file)
    walk.values(live.values)


class _ValueWalk:
    """Counts what values need that travel with a function."""

    def __init__(self, reach: Reach, program: Program, live: LiveFunction) -> None:
        self._reach = reach
        self._program = program
        self._live = live
        self._seen: set[int] = {id(live.function)}

    def function(self, function: types.FunctionType, file: CodeFile | None) -> None:
        """Count closure cells, and the globals that no text binds; without a file also imports, from the code."""
        closure = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self.values(tuple(content for _, cell in closure if (content := _content(cell)) is not _EMPTY))
        if file is None:
            self.values((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
            for module in _imports(function):
                self._reach.add_module(module, self._live.path, self._live.line, "runtime")
        for name in _names(function.__code__):
            known = file is not None and name in file.scopes.root.bindings
            if not known and name in function.__globals__ and not hasattr(builtins, name):
                self.values((function.__globals__[name],))

    def values(self, values: tuple[object, ...]) -> None:
        """Count what some values need to be unpickled elsewhere."""
        pending = list(values)
        while pending and len(self._seen) < _MAX_ELEMENTS:
            value = pending.pop()
            if id(value) in self._seen:
                continue
            self._seen.add(id(value))
            pending += _held(value)
            self._value(value)

    def _value(self, value: object) -> None:
        if isinstance(value, types.ModuleType):
            self._module(value.__name__)
        elif isinstance(value, types.FunctionType | type | functools.partial | types.MethodType):
            self._callable(value)
        else:
            self._callable(type(value))

    def _callable(self, value: Callable[..., Any]) -> None:
        try:
            live = locate(value)
        except TargetNotFoundError:
            return
        self.values(live.values)
        if live.module not in ("__main__", self._live.module):
            self._module(live.module)
        elif live.function is not self._live.function:
            try:
                add_live(self._reach, self._program, live)
            except FunctionNotFoundError:
                return  # made at run time: nothing to read, and its functions are counted where they are used

    def _module(self, name: str) -> None:
        if name and name != "__main__":
            self._reach.add_module(name, self._live.path, self._live.line, "runtime")


_EMPTY = object()


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _held(value: Any) -> list[object]:
    """Return what a value holds, through the built-in types' own methods: no code of the user's runs."""
    kind = type(value)
    if issubclass(kind, dict):
        return [*dict.keys(value), *dict.values(value)]
    containers: tuple[Any, ...] = (list, tuple, set, frozenset)
    for container in containers:
        if issubclass(kind, container):
            return list(container.__iter__(value))
    if issubclass(kind, types.ModuleType | type | types.FunctionType):
        return []
    try:
        return list(object.__getattribute__(value, "__dict__").values())
    except AttributeError:
        return []


def _imports(function: types.FunctionType) -> Iterator[str]:
    """Give the modules that the byte code of a function imports absolutely."""
    for code in _codes(function.__code__):
        instructions = list(dis.get_instructions(code))
        for position, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME" and isinstance(instruction.argval, str):
                level = instructions[position - 2].argval if position >= 2 else 0
                if level == 0:
                    yield instruction.argval


def _names(code: types.CodeType) -> set[str]:
    return {name for one in _codes(code) for name in one.co_names}


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    pending = [code]
    while pending:
        one = pending.pop()
        yield one
        pending += [constant for constant in one.co_consts if isinstance(constant, types.CodeType)]


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
    return program.script(live.path)


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
