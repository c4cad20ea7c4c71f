"""What a function will import for certain is imported before its first call, and nothing else is."""

from __future__ import annotations

import json
import os.path
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envpack_executor import ContextExecutor
from envpack_executor.hoisting import imports_of
from envpack_executor.manager.events import ProcessReady, StartContext
from envpack_executor.messages import ProcessGone, ProcessId
from tests.executor import functions
from tests.executor.helpers import GENEROUS_S, run_script
from tests.executor.test_manager_reactor import FunctionRecord, Manager, make_context

HERE_BY_VALUE = __name__


def names_a_module(value: Any) -> str:
    return json.dumps(value)


def imports_at_the_top() -> object:
    """It has a docstring, too."""
    import colorsys as colors
    import xml.dom.minidom
    from xml.etree import ElementTree

    return colors, xml, ElementTree


def imports_behind_a_condition(wanted: bool) -> object:
    if wanted:
        import colorsys

        return colorsys
    return None


def imports_behind_a_call() -> object:
    functions.double(1)
    import colorsys

    return colorsys


def imports_from_a_closure(value: int) -> Callable[[], object]:
    def inner() -> object:
        import colorsys

        return colorsys, value

    return inner


def names_a_function(path: str) -> str:
    return os.path.basename(path) + str(functions.double(path))


def wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(*args)

    return call


def names_another_by_value(value: Any) -> str:
    return names_a_module(value) if value else names_another_by_value(1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (names_a_module, [("json", ())]),
        (
            imports_at_the_top,
            [("colorsys", ()), ("xml.dom.minidom", ()), ("xml.etree", ("ElementTree",))],
        ),
        (imports_behind_a_condition, []),
        (imports_behind_a_call, [("tests.executor.functions", ())]),
        (imports_from_a_closure(1), [("colorsys", ())]),
        (names_a_function, [("os", ()), ("tests.executor.functions", ())]),
        (lambda: json, [("json", ())]),
        (wraps(names_a_function), [("os", ()), ("tests.executor.functions", ())]),
        (wraps(functions.double), [("tests.executor.functions", ())]),
        (names_another_by_value, [("json", ())]),
        (len, [("builtins", ())]),
    ],
)
def test_what_is_imported_for_certain_is_found(function: Any, expected: list[Any]) -> None:
    assert list(imports_of(function, HERE_BY_VALUE)) == expected


def test_a_function_that_is_sent_by_name_brings_its_module() -> None:
    assert imports_of(functions.double, None) == (("tests.executor.functions", ()),)


def test_a_forked_call_imports_in_its_child_what_its_body_imports() -> None:
    assert imports_of(imports_at_the_top, HERE_BY_VALUE, is_forked=True) == ()


# --- decisions


def test_a_process_imports_what_the_first_call_of_its_context_will() -> None:
    world, context = Manager(), make_context()
    function = FunctionRecord(1, b"", "work", "work", imports=(("json", ()),))
    _, [start] = world.queue(context, 1, function)
    assert isinstance(start, StartContext)
    assert start.imports == (("json", ()),)


def test_a_process_after_one_that_died_imports_nothing_before_it_is_ready() -> None:
    world, context = Manager(), make_context()
    function = FunctionRecord(1, b"", "work", "work", imports=(("deadly", ()),))
    world.queue(context, 1, function)
    [start] = world.handle(ProcessGone(ProcessId(1), -11, -1))
    assert isinstance(start, StartContext)
    assert start.imports == (), "so that the call is blamed, if it is its import"
    world.handle(ProcessReady(start.process))


# --- real processes


def from_source(source: str) -> Callable[[], object]:
    """Return a function whose imports nobody can find by reading this file."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(source, script)
    function: Callable[[], object] = script["call"]
    return function


def test_imports_are_done_before_the_first_call(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import os\nloaded_by = os.getpid()\nprint('loaded', flush=True)\n")
    printed = run_script(
        tmp_path,
        """
        import sys
        from envpack_executor import ContextExecutor

        def look():
            import slow_module
            return slow_module.loaded_by

        if __name__ == "__main__":
            with ContextExecutor(max_workers=1) as executor:
                executor.prepare(look).result(40)
                print("prepared", flush=True)
                [pid] = executor.stats().pids
                print(executor.submit(look).result(40) == pid)
        """,
    )
    assert printed.splitlines() == ["loaded", "prepared", "True"]


def test_a_module_that_cannot_be_imported_is_told_by_the_call() -> None:
    missing = from_source("def call(): import no_such_module_anywhere")
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            executor.submit(missing).result(GENEROUS_S)
        assert executor.stats().set_ups == 1


def test_a_module_that_ends_its_process_is_blamed_on_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly_module.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    deadly = from_source("def call(): import deadly_module")
    with ContextExecutor(max_workers=1) as executor:
        with pytest.raises(Exception, match="exit status 3"):
            executor.submit(deadly).result(GENEROUS_S)
        assert executor.submit(functions.double, 1).result(GENEROUS_S) == 2
