"""What a live value holds, read through the built-in types' own methods: no code of the user's runs.

That is what pickling would take along: elements, attributes, slots, the object of a bound method, what a descriptor
wraps. Values of types that have no parts (numbers, texts) are left out at once, so that long lists of them cost little.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Iterator
from typing import Any

_LEAVES: frozenset[Any] = frozenset(
    {int, float, complex, bool, str, bytes, bytearray, type(None), type(...), type(NotImplemented), range, slice}
)
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, collections.deque)
# Modules whose objects pickling replaces by a name.
_BY_NAME = frozenset({"logging", "threading", "multiprocessing.context"})
# Attributes of types written in another language that pickling reads, by their module and name.
_FOREIGN: dict[tuple[str, str], tuple[str, ...]] = {
    ("pandas._libs.internals", "BlockManager"): ("blocks", "axes"),
    ("pandas._libs.internals", "Block"): ("values",),
}
# Attributes of built-in types that hold values, and lie in no dictionary.
_MEMBERS: dict[Any, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    types.BuiltinFunctionType: ("__self__",),
    types.GenericAlias: ("__origin__", "__args__"),
    types.UnionType: ("__args__",),
    types.MethodWrapperType: ("__self__",),
    functools.partial: ("func", "args", "keywords"),
    collections.defaultdict: ("default_factory",),
    BaseException: ("args", "__cause__"),
    types.CellType: ("cell_contents",),
}


def held(value: Any) -> list[Any]:
    """Return what a value holds that may need something to be unpickled."""
    kind = type(value)
    found: list[Any] = []
    if issubclass(kind, dict):
        found += [one for one in dict.keys(value) if type(one) not in _LEAVES]
        found += [one for one in dict.values(value) if type(one) not in _LEAVES]
    for container in _SEQUENCES:
        if issubclass(kind, container):
            found += [one for one in container.__iter__(value) if type(one) not in _LEAVES]
    for owner, names in _MEMBERS.items():
        if issubclass(kind, owner):
            found += [inner for name in names if (inner := _member(owner, name, value)) is not None]
    for one in class_line(kind):
        for name in _FOREIGN.get((class_module(one), one.__name__), ()):
            found += [inner for inner in (_member(one, name, value),) if inner is not None]
    if _keeps_state(kind):
        found += _attributes(value)
    return found


def class_dictionary(kind: type) -> dict[str, Any]:
    """Return the dictionary of a class, past any metaclass that would like to be asked."""
    found: dict[str, Any] = type.__dict__["__dict__"].__get__(kind)
    return found


def class_line(kind: type) -> tuple[type, ...]:
    """Return a class and its bases in their order, past any metaclass that would like to be asked."""
    found: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return found


def class_module(kind: type) -> str:
    """Return the name of the module of a class, past any metaclass that would like to be asked."""
    name = class_dictionary(kind).get("__module__")
    if not isinstance(name, str):  # written in another language: part of the name of the type
        name = type.__dict__["__module__"].__get__(kind)
    return name if isinstance(name, str) else "builtins"


def _keeps_state(kind: type) -> bool:
    """Whether objects of a type travel with their attributes; a logger, for example, travels by its name."""
    return not any(
        class_module(one) in _BY_NAME and not {"__reduce__", "__reduce_ex__"}.isdisjoint(class_dictionary(one))
        for one in class_line(kind)
    )


def _attributes(value: Any) -> list[Any]:
    found: list[Any] = []
    try:
        attributes = object.__getattribute__(value, "__dict__")
        found += dict.values(attributes) if isinstance(attributes, dict) else ()
    except AttributeError:
        pass  # a type with nothing but slots, or a built-in one
    for kind in class_line(type(value)):
        inner = class_dictionary(kind)
        for descriptor in inner.values() if "__slots__" in inner else ():
            if isinstance(descriptor, types.MemberDescriptorType):
                found += _slot(descriptor, value)
    return [one for one in found if type(one) not in _LEAVES]


def _slot(descriptor: types.MemberDescriptorType, value: Any) -> Iterator[Any]:
    try:
        yield descriptor.__get__(value)
    except AttributeError:
        return  # never assigned


def _member(owner: Any, name: str, value: Any) -> Any:
    try:
        return vars(owner)[name].__get__(value)
    except (KeyError, AttributeError, ValueError):  # ValueError: a cell that is empty
        return None
