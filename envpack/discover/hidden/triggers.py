"""What makes a library import another distribution: the vocabulary in which `table` says it.

A *trigger* is a function, method, attribute or setting of a library whose use imports a module that the library does
not require: `pandas.read_excel` imports openpyxl. The table is Python and not a data format of its own, so that mypy
checks it and nothing has to be parsed when an analysis starts. More triggers come from entry points of the group
`envpack.triggers`, each of which names an iterable of `Trigger`.
"""

from __future__ import annotations

import importlib
import operator
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache

from envpack.discover.environment.folders import folder_plugins
from envpack.errors import UsageError
from envpack.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Reached = Literal["function", "method", "import"]

GROUP = "envpack.triggers"


@dataclass(frozen=True, slots=True)
class Given:
    """A condition on one argument of a call; it holds if any of the four does.

    With none of the four it holds where the argument is given and is neither `None` nor `False`.

    Attributes:
        position: where the argument stands, counted from 0; `None` for an argument that is always named.
        keyword: its name.
        values: the argument is one of these.
        starts: it is a text that begins with one of these, such as `s3://`.
        ends: it is a text that ends with one of these, such as `.xls`.
        holds: it is a text in which one of these regular expressions is found.
    """

    position: int | None
    keyword: str
    values: tuple[object, ...] = ()
    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """What is imported if a condition holds.

    Attributes:
        needs: modules: `a + b` are both imported, of `a | b` the first that is installed; empty for none.
        when: the condition; without one this is the case where no other holds.
    """

    needs: str
    when: Given | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A use of a library that imports something.

    Attributes:
        library: the module that must be imported for this to count, such as `pandas`.
        names: what is used: the last parts of a dotted name, such as `read_excel` or `options.plotting.backend`. An
            assignment to one of them counts as a call with the value as its only argument; `rcParams[backend]` is an
            assignment to that entry. For `import`, whole names of modules.
        cases: what is imported. The first that holds says which argument decides; others on that argument hold too.
        reached: `function`: through an import of the library; `method`: also on objects of which nothing is known;
            `import`: the module itself is imported.
        is_ambiguous: whether other libraries have methods of that name: then it counts on an object only unless the
            object is seen to come from elsewhere.
        without: imports of the program by which the case without a condition does not hold.
        sets: a setting that this makes.
        unless_set: a setting by which this does not count.
        inside: decorators of the functions in which alone this counts, such as `numba.njit`.
    """

    library: str
    names: tuple[str, ...]
    cases: tuple[Case, ...]
    reached: Reached = "function"
    is_ambiguous: bool = False
    without: tuple[str, ...] = ()
    sets: str = ""
    unless_set: str = ""
    inside: tuple[str, ...] = ()


def alternatives(needs: str) -> list[list[str]]:
    """Split `a + b | c` into the groups of modules of which one is needed."""
    groups = [[name.strip() for name in group.split("+") if name.strip()] for group in needs.split("|")]
    return [group for group in groups if group]


@cache
def triggers_by_name() -> Mapping[str, tuple[Trigger, ...]]:
    """Return all triggers, those of entry points included, by the last part of each of their names.

    Raises:
        UsageError: an entry point cannot be loaded, or gives something else.
    """
    from envpack.discover.hidden.table import TRIGGERS

    found: dict[str, tuple[Trigger, ...]] = {}
    for trigger in (*TRIGGERS, *_contributed()):
        for name in trigger.names:
            key = name if trigger.reached == "import" else name.rpartition(".")[2]
            found[key] = (*found.get(key, ()), trigger)
    return found


def _search_path() -> list[str]:
    return [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]


def _contributed() -> Iterable[Trigger]:
    # From the index and not from `importlib.metadata`, whose import costs as much CPU as an analysis.
    plugins = dict.fromkeys(plugin for folder in _search_path() for plugin in folder_plugins(folder))
    for name, value in (plugin[1:] for plugin in plugins if plugin[0] == GROUP):
        remedy = f"mend or uninstall what provides entry point {name!r} of group {GROUP!r}"
        try:
            module, _, attribute = value.partition(":")
            given: Any = list(operator.attrgetter(attribute)(importlib.import_module(module)))
        except Exception as error:  # somebody else's code: it may raise anything
            raise UsageError(f"cannot load triggers {value!r}: {type(error).__name__}: {error}", remedy) from error
        for trigger in given:
            if not isinstance(trigger, Trigger):
                raise UsageError(f"{value!r} holds {type(trigger).__name__}, Trigger expected", remedy)
            yield trigger
