"""A walk over live values: what pickling a function would take along, and what each part needs elsewhere.

As cloudpickle does, it stops at what travels by reference (an importable function or class of an installed package, a
module) and goes into what travels by value: closure cells, defaults, the globals that the code looks up, dictionaries
of classes, states of objects. Nothing is called. A list of what is still to look at replaces recursion.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from typing import Any

from envpack.discover.code.program import Program
from envpack.discover.dependencies import Unresolved
from envpack.discover.live.bytecode import global_names, imported_modules
from envpack.discover.live.held import class_dictionary, class_line, class_module, held
from envpack.discover.reach import Reach

# So many values are looked at: seconds of work, and tens of megabytes.
MAX_VALUES = 300_000
# The flag of a type that was made by a class statement (Py_TPFLAGS_HEAPTYPE).
_MADE_AT_RUN_TIME = 1 << 9
# The module that functions and classes name which code without a module has made.
_NOWHERE = frozenset({"", "builtins", "__main__"})
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_UFUNC = ("numpy", "ufunc")


class LiveWalk:
    """Counts what live values need.

    Args:
        reach: where it is counted.
        program: the files.
        own: names of the modules whose functions and classes travel by value.
        file: absolute path to name as the place, or an empty string.
        line: line to name as the place.
        add_text: follows the source of a function or class as far as there is one, and says whether there was.

    Attributes:
        taken: the modules of everything that travels along, and those that its code imports.
        is_complete: whether all values were looked at.
    """

    def __init__(
        self,
        reach: Reach,
        program: Program,
        own: frozenset[str],
        file: str,
        line: int,
        add_text: Callable[[types.FunctionType | type], bool],
    ) -> None:
        self._reach = reach
        self._program = program
        self._own = own | _NOWHERE
        self._file = file
        self._line = line
        self._add_text = add_text
        # Kept with their values: an identity is only one as long as its object lives.
        self._seen: dict[int, object] = {}
        self._pending: list[Any] = []
        self.taken: set[str] = set()
        self.is_complete = True

    def run(self, values: tuple[object, ...]) -> None:
        """Count what some values need, and all that they hold."""
        self._pending += values
        while self._pending:
            value = self._pending.pop()
            if id(value) in self._seen:
                continue
            if len(self._seen) >= MAX_VALUES:
                self._pending.clear()
                self.is_complete = False
                hint = f"more than {MAX_VALUES} values travel along: name what the others need with --include DIST"
                self._reach.add_unresolved(Unresolved("", self._file, self._line, "dynamic", hint))
                return
            self._seen[id(value)] = value
            self._visit(value)

    def _visit(self, value: Any) -> None:
        # Not `isinstance`: that asks the value for its `__class__`.
        kind = type(value)
        if issubclass(kind, types.ModuleType):
            self._module_object(value)
        elif issubclass(kind, types.FunctionType):
            self._function(value)
        elif issubclass(kind, type):
            self._class(value)
        else:
            self._object(value)

    def _function(self, function: types.FunctionType) -> None:
        module = function.__module__ or ""
        if module not in self._own:
            self._module(module)
            if _is_reachable(function, module, function.__qualname__):
                return
        self.add_function(function, has_text=self._is_users(module) and self._add_text(function))

    def add_function(self, function: types.FunctionType, *, has_text: bool) -> None:
        """Count what a function takes along; without a text also what its code imports."""
        self._pending += held(function)
        for cell in function.__closure__ or ():
            self._pending += held(cell)
        self._pending += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        if not self._is_users(function.__module__ or ""):
            return
        for name in global_names(function.__code__):
            if name in function.__globals__:
                self._pending.append(function.__globals__[name])
        self._pending += (function.__annotations__ or {}).values()
        package = function.__globals__.get("__package__")
        modules = set(imported_modules(function.__code__, package if isinstance(package, str) else ""))
        self.taken |= modules
        for module in modules if not has_text else ():
            self._imported(module)

    def _class(self, kind: type) -> None:
        module = class_module(kind)
        if module == "builtins" and not type.__dict__["__flags__"].__get__(kind) & _MADE_AT_RUN_TIME:
            return
        if module not in self._own:
            self._module(module)
            if not self._is_users(module) or _is_reachable(kind, module, kind.__qualname__):
                return
        self._add_text(kind)
        self._pending += [type(kind), *class_line(kind)[1:]]
        self._pending += class_dictionary(kind).values()

    def _object(self, value: Any) -> None:
        kind = type(value)
        self._pending.append(kind)
        if (class_module(kind), kind.__name__) == _UFUNC or class_module(kind).startswith("_cython"):
            self._module(_module_with(value))
        if kind is bytes and _PICKLE.match(value) and value.endswith(b"."):
            self._pickle(value)
        self._pending += held(value)

    def _pickle(self, content: bytes) -> None:
        """Count what bytes hold that look like a pickle: whoever carries them along will load them."""
        from envpack.discover.loads.picklefile import pickled_modules_of

        for module in pickled_modules_of(content).modules:
            self._module(module)

    def _module_object(self, module: types.ModuleType) -> None:
        name = module.__name__
        is_made = sys.modules.get(name) is not module and getattr(module, "__spec__", None) is None
        if is_made:  # by the program: it travels by value
            self._pending += [value for key, value in list(vars(module).items()) if key != "__builtins__"]
        else:
            self._module(name)

    def _module(self, name: str) -> None:
        if name and name != "__main__" and not name.startswith("_cython"):
            self.taken.add(name)
            self._reach.add_module(name, self._file, self._line, "runtime")

    def _imported(self, name: str) -> None:
        """Count an import of the code: `a.b` of `from a import b` may be no module."""
        finder = self._program.finder
        parent = name.rpartition(".")[0]
        is_attribute = finder.find(name).kind == "missing" and parent and finder.find(parent).kind != "missing"
        if not is_attribute:
            self._module(name)

    def _is_users(self, module: str) -> bool:
        """Whether the functions of a module travel by value: those under development, too."""
        if module in self._own:
            return True
        owner = self._program.finder.find(module)
        return owner.kind in ("local", "missing") or (owner.distribution is not None and owner.distribution.is_editable)


def _is_reachable(value: object, module: str, qualname: str) -> bool:
    """Whether pickling would only write down where a function or class is."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if found is None or part == "<locals>":
            return False
        found = class_dictionary(found).get(part) if isinstance(found, type) else vars(found).get(part)
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
    return found is value


def _module_with(value: Any) -> str:
    """Return the module in which something written in another language stands, as pickling looks for it."""
    name = getattr(value, "__name__", "")
    module = getattr(value, "__module__", None)
    if isinstance(module, str):
        return module
    for place, other in list(sys.modules.items()):
        if place != "__main__" and isinstance(other, types.ModuleType) and vars(other).get(name) is value:
            return place
    return ""
