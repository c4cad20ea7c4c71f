"""What Parsl hands over to an executor, as tasks: an app below Parsl's wrappers, and what it asks for.

    wrap_error(timeout(monitor(... @task function))) + resource specification ──▶ Task (the same one each time)

Parsl's wrappers run where the app runs, but for the outermost; everything that is found out about an app (its name, its
environment, its context) is that of the function below them.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from parsl.app.errors import wrap_error
from parsl.executors.errors import InvalidResourceSpecification

from envpack_executor.environments import Discovered
from envpack_executor.errors import TaskError
from envpack_executor.tasks import INHERIT, Task, TaskOptions, task
from envpack_monitor.allocation import Allocation

_log = logging.getLogger(__name__)

Asked = tuple[dict[str, Any], Task[..., Any]]

# As Work Queue and TaskVine count them.
MEBIBYTE = 1 << 20
_SPECIFICATION = "parsl_resource_specification"
_SIZES = {"memory": MEBIBYTE, "disk": MEBIBYTE}
# As an `Allocation` calls them.
_RESOURCES = {"cores": "cores", "memory": "memory_bytes", "disk": "disk_bytes", "gpus": "gpus"}
KEYS = (*_RESOURCES, "priority", "running_time_min", "environment", "context")
_SYNONYMS = {"env": "environment"}
# Values of these types are the same when they are equal; others, when they are one object.
_PLAIN = (int, float, str, bytes, bool, type(None))


# Where what runs a bash app keeps the defaults of the app.
_DEFAULTS = "__envpack_defaults__"

# So many apps are remembered: Parsl wraps one that has a walltime anew for each call.
_MOST_APPS = 256
_MOST_SPECIFICATIONS = 16


class Apps:
    """Turns what Parsl hands over into tasks of one executor.

    Args:
        environment: where apps run that do not say so themselves, see `ContextExecutor`.
        is_strict: whether a key of a resource specification that nobody knows is an error; it is warned of otherwise.
        is_monitored: whether each call is measured alone, however short.
    """

    def __init__(self, environment: Any, is_strict: bool, is_monitored: bool = False) -> None:
        self._environment = environment
        self._is_strict = is_strict
        self._is_monitored = is_monitored
        self._known: dict[int, tuple[Callable[..., Any], list[Asked]]] = {}
        self._warned: set[Any] = set()

    def task(self, function: Callable[..., Any], specification: Mapping[str, Any] | None) -> Task[..., Any]:
        """Return the task that an app is; the same one as before for the same app and specification.

        Args:
            function: as Parsl hands it over.
            specification: `parsl_resource_specification` of the call; None for nothing.

        Raises:
            InvalidResourceSpecification: a key is not known, and that is an error here.
            TaskError: a value is none that its key can have.
        """
        specification = {} if specification is None else specification
        known = self._known.get(id(function))
        if known is None:
            known = self._known[id(function)] = (function, [])
            if len(self._known) > _MOST_APPS:
                del self._known[next(iter(self._known))]
        for asked, found in known[1]:
            if _is_same(asked, specification):
                return found
        options = self._options(function, self._checked(specification))
        bare = _bare(function)
        if options.setup is not None and _is_bash(bare):
            bare = _with_parameters(bare)
        found = Task(bare, options)
        known[1][_MOST_SPECIFICATIONS - 1 :] = []
        known[1].insert(0, (dict(specification), found))
        return found

    def _checked(self, specification: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is known of a resource specification, by our names."""
        named = {_SYNONYMS.get(key, key): value for key, value in specification.items()}
        unknown = {key for key in named if key not in KEYS}
        if unknown and self._is_strict:
            raise InvalidResourceSpecification(unknown, f"expected some of {', '.join(KEYS)}")
        for key in sorted(map(str, unknown - self._warned)):
            _log.warning("resource specification has %r, which nobody knows: expected some of %s", key, ", ".join(KEYS))
        self._warned.update(unknown)
        # None is an environment; of the other keys it says nothing.
        return {
            key: value for key, value in named.items() if key in KEYS and (value is not None or key == "environment")
        }

    def _options(self, function: Callable[..., Any], asked: Mapping[str, Any]) -> TaskOptions:
        """Return what the executor should know about the calls of an app: as its `@task` and its specification say."""
        core = unwrapped(function)
        declared = core.options if isinstance(core, Task) else TaskOptions()
        options = _with_specification(declared, asked)
        bare = core.function if isinstance(core, Task) else core
        environment = self._environment if options.environment is INHERIT else options.environment
        if environment == "auto" and isinstance(environment, str):
            environment = Discovered.of(bare, include=("parsl",))
        return replace(
            options,
            environment=environment,
            category=options.category or _category(bare),
            is_measured_alone=self._is_monitored,
        )


def without_objects(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call without what its resource specification says to us alone.

    An app that takes the specification as a parameter gets it; environments and set-up functions in it are of no use
    there, and need not be importable.
    """
    said = kwargs.get(_SPECIFICATION)
    if not isinstance(said, Mapping) or not any(_SYNONYMS.get(key, key) in ("environment", "context") for key in said):
        return kwargs
    left = {key: value for key, value in said.items() if _SYNONYMS.get(key, key) not in ("environment", "context")}
    return {**kwargs, _SPECIFICATION: left}


def without_defaults(task: Task[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call without those that Parsl, and not the caller, has given.

    Parsl gives a bash app all its defaults. Where a set-up provides values, they must be left open for these; the app
    gets them back where none is provided.
    """
    defaults = getattr(task, _DEFAULTS, None)
    if defaults is None:
        return kwargs
    return {name: value for name, value in kwargs.items() if name not in defaults or value is not defaults[name]}


def unwrapped(function: Callable[..., Any]) -> Any:
    """Return what is below the wrappers that Parsl has put around an app: a function, or a `Task`.

    Wrappers of the user's own stay: they are a part of the app.
    """
    while not isinstance(function, Task):
        if _is_bash(function):
            function = function.args[0]  # of a bash app, by what runs its command line
        elif _is_parsls(function) and (inner := getattr(function, "__wrapped__", None)) is not None:
            function = inner
        else:
            return function
    return function


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an app without Parsl's `wrap_error`, which turns exceptions into results.

    Here exceptions arrive as such, with their traceback. So whoever counts failures and tries again sees them, and a
    process needs no Parsl for a plain app: to import it takes a second and 50 MB.
    """
    if getattr(function, "__code__", None) is not _WRAPS_ERRORS:
        return function
    inner: Callable[..., Any] = function.__wrapped__  # type: ignore[attr-defined]
    return inner.function if isinstance(inner, Task) else inner


def _is_bash(function: Any) -> TypeGuard[functools.partial[Any]]:
    """Tell whether a function is what runs the command line of a bash app, with the app as its first argument."""
    return isinstance(function, functools.partial) and bool(function.args) and _is_parsls(function.func)


def _with_parameters(bash: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs a bash app, with the parameters of the app, so that its set-up can provide values for them."""
    core = unwrapped(bash)
    parameters = inspect.signature(core.function if isinstance(core, Task) else core).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}

    # Without a name of its own, it travels by value to where this module is not installed.
    def run(*args: Any, **kwargs: Any) -> Any:
        return bash(*args, **{**defaults, **kwargs})

    # As the signature of a wrapper is found out.
    run.__wrapped__ = run  # type: ignore[attr-defined]
    bare = [each.replace(default=each.empty, annotation=each.empty) for each in parameters]
    run.__signature__ = inspect.Signature(bare)  # type: ignore[attr-defined]
    setattr(run, _DEFAULTS, defaults)
    return run


def _is_parsls(function: Any) -> bool:
    """Tell whether a function stands in Parsl's own code, whatever name it has been given."""
    home = getattr(function, "__globals__", {}).get("__name__", "")
    return str(home).partition(".")[0] == "parsl"


def _with_specification(declared: TaskOptions, asked: Mapping[str, Any]) -> TaskOptions:
    """Return options with what a resource specification says, which wins over what it names alone."""
    if not asked:
        return declared
    changes: dict[str, Any] = {}
    amounts = {key: asked[key] for key in _RESOURCES if key in asked}
    if amounts:
        changes["resources"] = _with_amounts(declared.resources, amounts)
    if "context" in asked:
        said = task(context=asked["context"])(_nothing).options
        changes.update(setup=said.setup, setup_args=said.setup_args)
    if "priority" in asked:
        changes["priority"] = task(priority=asked["priority"])(_nothing).options.priority
    if "environment" in asked:
        changes["environment"] = asked["environment"]
    if "running_time_min" in asked:
        changes["least_s"] = _seconds("running_time_min", asked["running_time_min"])
    return replace(declared, **changes)


def _with_amounts(declared: Allocation | None, amounts: Mapping[str, Any]) -> Allocation | None:
    """Return what a call takes of its node by these amounts, and by what is declared of the rest."""
    # For Work Queue and TaskVine, 0 of what is counted beside cores is how to say "none".
    positive = {key: amount for key, amount in amounts.items() if key == "cores" or amount != 0}
    if declared is None and not positive:
        return None
    said = task(resources={key: _scaled(key, amount) for key, amount in positive.items()})(_nothing).options.resources
    fields = [_RESOURCES[key] for key in amounts]
    return replace(declared or Allocation(), **{field: getattr(said, field) for field in fields})


def _scaled(key: str, amount: Any) -> Any:
    """Return an amount in the unit that `@task` counts it in."""
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TaskError(f"resource specification: {key} is {amount!r}, expected a number")
    return amount * _SIZES[key] if key in _SIZES else amount


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0 <= value < math.inf):
        raise TaskError(f"resource specification: {key} is {value!r}, expected 0 seconds or more")
    return float(value)


def _nothing() -> None:
    """Stand for any function: it is asked for what its task would be."""


_WRAPS_ERRORS = wrap_error(_nothing).__code__


def _category(function: Any) -> str:
    """Return module and name of an app."""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", type(function).__qualname__)
    return f"{module}.{name}"


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two specifications, or what is in them, are the same, without asking values that compare oddly."""
    if one is other:
        return not isinstance(one, list | dict)  # it may have been changed since
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return type(one) in _PLAIN and type(one) is type(other) and one == other
