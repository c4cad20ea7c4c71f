"""What live values take along: as cloudpickle would ship them, found without calling anything of theirs."""

from __future__ import annotations

import collections
import functools
import importlib.util
import logging
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import dateutil.parser
import numpy as np
import pytest
import yaml

from envpack import analyze
from envpack.discover.live import walk as livewalk
from tests.discover.conftest import Environment, Project, relative, roles

Load = Callable[..., ModuleType]


@pytest.fixture
def load(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a source text as a module, as a program that calls `analyze` would have."""

    def run(source: str, name: str = "live_values") -> ModuleType:
        path = project({f"{name}.py": source}).parent / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return run


def make(thing: Any) -> Callable[[], Any]:
    """Return a function without source whose closure holds a value."""
    names: dict[str, Any] = {}
    exec("def make(thing):\n    def f(): return thing\n    return f", names)
    function: Callable[[], Any] = names["make"](thing)
    return function


def needed(target: Any) -> set[str]:
    return set(roles(analyze(target)))


class Slotted:
    __slots__ = ("never", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def method(self) -> Any:
        return self.value


HELD: dict[str, Any] = {
    "element": [np.zeros(1)],
    "key": {np.float64(1): 1},
    "nested": {"a": [({"b": {np.float64(1)}},)]},
    "deque": collections.deque([np.zeros(1)]),
    "default factory": collections.defaultdict(np.float64),
    "ordered": collections.OrderedDict(a=np.zeros(1)),
    "namespace": types.SimpleNamespace(a=np.zeros(1)),
    "slot": Slotted(np.zeros(1)),
    "attribute": Holder(np.zeros(1)),
    "bound method": Holder(np.zeros(1)).method,
    "method of a library": np.zeros(1).sum,
    "partial": functools.partial(print, np.zeros(1)),
    "partial keyword": functools.partial(print, end=np.zeros(1)),
    "partial of partial": functools.partial(functools.partial(print, np.zeros(1)), 2),
    "partial method": functools.partialmethod(print, np.zeros(1)),
    "exception": ValueError(np.zeros(1)),
    "type": np.float64,
    "generic alias": list[np.float64],
    "union": np.float64 | None,
    "universal function": np.sin,
    "function": np.linalg.norm,
    "module": np.linalg,
    "property": property(np.sum),
    "static method": staticmethod(np.sum),
    "cached property": functools.cached_property(np.sum),
    "cached": functools.lru_cache(make(np.zeros(1))),
    "named tuple": collections.namedtuple("Pair", "a b")(1, np.zeros(1)),
}


@pytest.mark.parametrize("case", HELD)
def test_value_in_a_closure_needs_what_it_is_made_of(case: str) -> None:
    assert "numpy" in needed(make(HELD[case])) - {"envpack-hpc"}


def test_plain_values_need_nothing() -> None:
    plain = [1, "a", b"b", 1.0, None, True, ..., {"a": (1, {2})}, range(3), slice(1), Path("a"), logging.INFO]
    assert needed(make(plain)) == set()


def test_type_of_a_later_element_is_not_lost_in_a_long_list() -> None:
    assert needed(make([*range(500_000), np.zeros(1)])) == {"numpy"}
    assert needed(make([*([(1,)] * 100_000), yaml])) == {"pyyaml"}
    mixed = [{"number": i, "text": [str(i)]} for i in range(20_000)]
    mixed[15_000]["late"] = np.float64(1)
    assert needed(make(mixed)) == {"numpy"}


def test_more_values_than_are_looked_at_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livewalk, "MAX_VALUES", 100)
    found = analyze(make([(i,) for i in range(200)]))
    assert [(item.kind, "--include" in item.hint) for item in found.unresolved] == [("dynamic", True)]


def test_values_that_hold_each_other_come_to_an_end() -> None:
    one: list[Any] = [np.zeros(1)]
    two = {"one": one}
    one.append(two)
    assert needed(make(one)) == {"numpy"}


def test_function_that_travels_by_reference_is_not_entered(load: Load, project: Project) -> None:
    project({"lib_of_mine.py": "import yaml\ndef g(): return yaml\n"})
    module = load("import numpy as np\ndef deco(f):\n    def inner(): return f(), np\n    return inner")
    assert needed(make(np.sum)) == {"numpy"}
    assert needed(make(cloudpickle.dumps)) == {"cloudpickle"}
    assert needed(module.deco(cloudpickle.dumps)) == {"numpy", "cloudpickle"}


def test_closure_of_a_wrapper_around_the_function_counts(load: Load) -> None:
    module = load(
        """
        import functools
        def deco(extra):
            def wrap(f):
                @functools.wraps(f)
                def inner(*a): return extra, f(*a)
                return inner
            return wrap
        def f(): return 1
        """
    )
    assert needed(module.deco(np)(module.f)) == {"numpy"}
    assert needed(module.deco(1)(module.f)) == set()


def test_registry_of_a_generic_function_travels(load: Load) -> None:
    module = load("import functools\n@functools.singledispatch\ndef f(x): return x\ndef g(x): return x")
    module.f.register(np.ndarray, module.g)
    assert needed(module.f) == {"numpy"}


def test_dictionary_of_a_class_travels(load: Load) -> None:
    module = load(
        """
        class Meta(type): pass
        class Base: pass
        class K(Base, metaclass=Meta):
            @property
            def p(self): return thing_of_p
            @staticmethod
            def s(): return thing_of_s
            @classmethod
            def c(cls): return 1
        def f(): return K()
        """
    )
    assert needed(module.f) == set()
    module.thing_of_p = np  # type: ignore[attr-defined]
    assert needed(module.f) == {"numpy"}
    module.thing_of_s = yaml  # type: ignore[attr-defined]
    assert needed(module.K) == {"numpy", "pyyaml"}
    module.Base.late = dateutil.parser.parse
    assert needed(module.K().c) == {"numpy", "pyyaml", "python-dateutil"}


def test_class_made_at_run_time_is_read_from_its_dictionary() -> None:
    names: dict[str, Any] = {"yaml": yaml, "np": np}
    exec(
        "class K:\n    x = np.zeros(1)\n    def f(self): return yaml\n    def g(self):\n        import dateutil", names
    )
    assert needed(make(names["K"]())) == {"numpy", "pyyaml", "python-dateutil"}


def test_value_says_more_than_the_text_that_made_it(load: Load) -> None:
    module = load("import json\nREGISTRY = json.loads('{}')\ndef f(): return REGISTRY\ndef g(): return 1")
    module.REGISTRY["late"] = np.zeros(1)
    assert needed(module.f) == {"numpy"}
    assert needed(module.g) == set()


def test_attribute_is_no_global_of_the_same_name(load: Load) -> None:
    module = load("def f(x): return x.yaml")
    module.yaml = yaml  # type: ignore[attr-defined]
    assert needed(module.f) == set()


def test_module_made_by_the_program_travels_by_value() -> None:
    made = types.ModuleType("made_here")
    made.inner = np.zeros(1)  # type: ignore[attr-defined]
    found = analyze(make(made))
    assert set(roles(found)) == {"numpy"}
    assert found.unresolved == ()


def test_imports_of_code_without_source_count() -> None:
    names: dict[str, Any] = {"__package__": "yaml"}
    exec(
        "def f():\n    def g():\n        from . import nodes\n        import dateutil.parser as p\n    return g", names
    )
    found = analyze(names["f"])
    assert set(roles(found)) == {"pyyaml", "python-dateutil"}
    assert {"yaml.nodes", "dateutil.parser"} <= set(found.functions[0].modules)
    assert found.unresolved == ()


def test_logger_travels_by_its_name() -> None:
    logging.getLogger("envpack.test.other").thing = np  # type: ignore[attr-defined]
    assert needed(make(logging.getLogger("envpack.test"))) == set()


def test_local_module_of_a_value_is_shipped(load: Load, project: Project) -> None:
    module = load("import yaml\nclass Mine: pass", "mine_here")
    function = load("def make(x):\n    def f(): return x\n    return f").make(module.Mine())
    found = analyze(function)
    folder = project({}).parent
    assert relative(found.local_files, folder) == ["mine_here.py"]
    assert set(roles(found)) == {"pyyaml"}


def test_live_value_decides_which_triggers_count(environment: Environment, project: Project) -> None:
    environment.install("pandas", files=("pandas/__init__.py",))
    environment.install("openpyxl", files=("openpyxl/__init__.py",))
    (environment.site / "pandas" / "__init__.py").write_text("class DataFrame:\n    def to_excel(self, path): ...\n")
    script = project(
        {
            "main.py": """
            import pandas
            from envpack import analyze
            def make(frame):
                def save(): frame.to_excel('a.xlsx')
                return save
            for held in (pandas.DataFrame(), 1):
                print(*sorted(item.name for item in analyze(make(held)).distributions))
            """
        }
    )
    path = ":".join([str(environment.site), *filter(None, sys.path)])
    run = subprocess.run([sys.executable, str(script)], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.stdout.splitlines()[:1] == ["openpyxl pandas"], run.stderr


class _Loud(type):
    def __getattribute__(cls, name: str) -> Any:
        raise SystemExit(f"ran: {name}")


def test_values_are_read_past_what_would_run() -> None:
    names: dict[str, Any] = {"_Loud": _Loud}
    source = """
class Quiet:
    def __getattribute__(self, name): raise SystemExit(name)
    def __reduce__(self): raise SystemExit("reduce")
    def __iter__(self): raise SystemExit("iter")
    def __hash__(self): raise SystemExit("hash")
class Items(dict):
    def values(self): raise SystemExit("values")
    def __iter__(self): raise SystemExit("iter")
"""
    exec(source, names)
    assert needed(make([names["Quiet"](), names["Items"](a=np.zeros(1))])) == {"numpy"}
