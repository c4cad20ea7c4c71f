"""Data classes whose making costs a tenth of what `dataclasses` takes: they are made anew in every process.

An analysis has some forty of them, and making these took longer than analysing a script. `dataclass` here writes only
`__init__` as code; all other methods are shared closures. What it makes are data classes to everybody else too:
`dataclasses.fields`, `replace` and `asdict` know them, `match` does, and they can be pickled. Its parameters mean what
they mean there. A class that is not made in every analysis may as well use `dataclasses`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):  # noqa: D103 - a stand-in, for `typing` costs as much as all of our classes
        return lambda function: function


class _Default:
    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """Return the default of a field that is made anew for each object."""
    return _Default(default_factory)  # type: ignore[return-value]


def replace(item: T, /, **changes: Any) -> T:
    """Return a copy of an object with some fields changed."""
    names = item.__match_args__  # type: ignore[attr-defined]
    return type(item)(**{name: getattr(item, name) for name in names} | changes)


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    *, frozen: bool = False, slots: bool = False, eq: bool = True, order: bool = False
) -> Callable[[type[T]], type[T]]:
    """Return a decorator that makes a data class; see `dataclasses.dataclass` for the parameters."""

    def make(cls: type[T]) -> type[T]:
        types = {name: kind for name, kind in cls.__annotations__.items() if "ClassVar" not in kind}
        names = tuple(types)
        defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        methods: dict[str, Any] = {"__match_args__": names, "__repr__": _repr(names), "__reduce__": _reduce(names)}
        methods |= _comparisons(names, eq, order, frozen)
        methods |= {name: _Twin(name, types, defaults) for name in ("__dataclass_fields__", "__dataclass_params__")}
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        made = _with_slots(cls, names) if slots else cls
        for name, default in defaults.items():
            if not slots and isinstance(default, _Default):
                delattr(made, name)
        methods["__init__"] = _init(made, names, defaults, slots)
        for name, method in methods.items():
            if name == "__init__" or name not in cls.__dict__:
                setattr(made, name, method)
        return made

    return make


def _with_slots(cls: type[T], names: tuple[str, ...]) -> type[T]:
    kept = {key: value for key, value in cls.__dict__.items() if key not in (*names, "__dict__", "__weakref__")}
    metaclass: Any = type(cls)
    made: type[T] = metaclass(cls.__name__, cls.__bases__, {**kept, "__slots__": names})
    return made


def _init(cls: type, names: tuple[str, ...], defaults: dict[str, Any], slots: bool) -> Any:
    """Write `__init__`: with slots through their descriptors, else through `__dict__`, so that frozen ones let it."""
    known: dict[str, Any] = {"_Default": _Default}
    head, body = ["self"], []
    for name in names:
        value = name
        if name in defaults:
            known[f"_default_{name}"] = defaults[name]
            head.append(f"{name}=_default_{name}")
            if isinstance(defaults[name], _Default):
                value = f"{name}.make() if {name} is _default_{name} else {name}"
        else:
            head.append(name)
        if slots:
            known[f"_set_{name}"] = cls.__dict__[name].__set__
            body.append(f" _set_{name}(self, {value})")
        else:
            body.append(f" values[{name!r}] = {value}")
    before = [] if slots else [" values = self.__dict__"]
    exec("\n".join([f"def __init__({', '.join(head)}):", *before, *body]), known)
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda item: tuple(getattr(item, name) for name in names)


def _comparisons(names: tuple[str, ...], eq: bool, order: bool, frozen: bool) -> dict[str, Any]:
    values = _getter(names)

    def compared(compare: Callable[[Any, Any], bool]) -> Any:
        return lambda self, other: (
            compare(values(self), values(other)) if other.__class__ is self.__class__ else NotImplemented
        )

    found: dict[str, Any] = {}
    if eq:
        found["__eq__"] = compared(tuple.__eq__)
        found["__hash__"] = (lambda self: hash(values(self))) if frozen else None
    if order:
        for name in ("__lt__", "__le__", "__gt__", "__ge__"):
            found[name] = compared(getattr(tuple, name))
    return found


def _repr(names: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.__class__.__qualname__}({inside})"

    return __repr__


def _reduce(names: tuple[str, ...]) -> Callable[[Any], tuple[type, tuple[Any, ...]]]:
    values = _getter(names)
    return lambda self: (self.__class__, values(self))


def _refuse(self: object, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


class _Twin:
    """What `dataclasses` wants to know of a class, made by `dataclasses` for a twin when it is asked for."""

    def __init__(self, name: str, types: dict[str, Any], defaults: dict[str, Any]) -> None:
        self._name = name
        self._types = types
        self._defaults = defaults

    def __get__(self, item: object, owner: type) -> Any:
        import dataclasses

        def default(name: str) -> Any:
            if name not in self._defaults:
                return dataclasses.field()
            value = self._defaults[name]
            is_made = isinstance(value, _Default)
            return dataclasses.field(default_factory=value.make) if is_made else dataclasses.field(default=value)

        fields = [(name, kind, default(name)) for name, kind in self._types.items()]
        twin = dataclasses.make_dataclass(owner.__name__, fields, frozen=True)
        return getattr(twin, self._name)
