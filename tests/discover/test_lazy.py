"""Names that a module makes when they are asked for, constants that callers pass, and guards that ask first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envpack import analyze
from tests.discover.conftest import Project, relative, roles

Needs = Callable[..., dict[str, str]]

TABLE = """
    import importlib
    _LAZY = {"dump": ("yaml", "dump"), "sum": ("numpy", "sum")}
    def __getattr__(name):
        if name in _LAZY:
            module, attribute = _LAZY[name]
            return getattr(importlib.import_module(module), attribute)
        if name == "parse":
            from dateutil.parser import parse
            return parse
        raise AttributeError(name)
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from pkg import dump", {"pyyaml"}),
        ("from pkg import sum", {"numpy"}),
        ("from pkg import parse", {"python-dateutil"}),
        ("import pkg\ndef f(): return pkg.dump(1)", {"pyyaml"}),
        ("import pkg as p\nprint(p.sum, p.parse)", {"numpy", "python-dateutil"}),
        ("import pkg\npkg.own()", set()),
        ("import pkg\nuse(pkg)", {"pyyaml", "numpy", "python-dateutil"}),
        ("import importlib\nimportlib.import_module('pkg')", {"pyyaml", "numpy", "python-dateutil"}),
        ("import pkg", set()),
    ],
)
def test_only_names_that_are_asked_for_are_made(project: Project, source: str, expected: set[str]) -> None:
    script = project({"main.py": source, "pkg/__init__.py": f"{TABLE}\n    def own(): return 1\n"})
    assert set(roles(analyze(script))) == expected


def test_submodule_that_is_made_lazily_is_followed(project: Project) -> None:
    files = {
        "main.py": "from pkg import one",
        "pkg/__init__.py": "import importlib\ndef __getattr__(n): return importlib.import_module(f'.{n}', __name__)",
        "pkg/one.py": "import yaml",
        "pkg/two.py": "import numpy",
    }
    script = project(files)
    found = analyze(script)
    assert relative(found.local_files, script.parent) == ["pkg/__init__.py", "pkg/one.py"]
    assert roles(found) == {"pyyaml": "direct"}


ATTACH = """
    import lazy_loader as lazy
    __getattr__, __dir__, __all__ = lazy.attach(__name__, ["one"], {"two": ["deux", "zwei"]})
"""
PARTS = {"pkg/one.py": "import yaml", "pkg/two.py": "import numpy\ndeux = zwei = 2"}
STUB = "import lazy_loader as lazy\n__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)"


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("from pkg import one", ["pkg/one.py"]),
        ("from pkg import zwei", ["pkg/two.py"]),
        ("import pkg\npkg.deux", ["pkg/two.py"]),
        ("from pkg import *", ["pkg/one.py", "pkg/two.py"]),
    ],
)
@pytest.mark.parametrize("is_stub", [False, True])
def test_names_of_lazy_loader_are_followed(project: Project, source: str, files: list[str], is_stub: bool) -> None:
    stub = {"pkg/__init__.pyi": "from . import one as one\nfrom .two import deux, zwei"} if is_stub else {}
    script = project({"main.py": source, "pkg/__init__.py": STUB if is_stub else ATTACH, **PARTS, **stub})
    found = analyze(script, exclude=["lazy_loader"])
    assert relative(found.local_files, script.parent) == ["pkg/__init__.py", *files]


CALLERS = {
    "attribute": """
        import importlib
        class Lazy:
            def __init__(self, name): self._name = name
            def __getattr__(self, key): return getattr(importlib.import_module(self._name), key)
        y = Lazy("yaml")
        """,
    "class_attribute": """
        from importlib import import_module
        class Base:
            module = None
            def load(self): return import_module(self.module)
        class Yaml(Base):
            module = "yaml"
        """,
    "data_class": """
        import dataclasses, importlib
        @dataclasses.dataclass
        class Plugin:
            label: str
            module: str = "json"
            def load(self): return importlib.import_module(self.module)
        Plugin("a", module="yaml").load()
        """,
    "method": """
        import importlib
        class Loader:
            def load(self, name): return importlib.import_module(name)
        Loader().load("yaml")
        """,
    "through_two_functions": """
        import importlib
        def inner(name): return importlib.import_module(name)
        def outer(kind): return inner(f"{kind}.nodes")
        outer("yaml")
        """,
    "loop_in_the_caller": """
        import importlib
        def load(name): return importlib.import_module(name)
        for name in ("yaml", "json"): load(name)
        """,
    "pairs": """
        import importlib
        for name, attribute in {"yaml": "dump"}.items(): importlib.import_module(name)
        """,
    "list_of_pairs": """
        import importlib
        TABLE = [("a", "yaml"), ("b", "json")]
        def f(): return {key: importlib.import_module(name) for key, name in TABLE}
        """,
    "unpacked": "import importlib\nname, _ = ('yaml', 1)\nimportlib.import_module(name)",
    "spec": """
        import importlib.util
        spec = importlib.util.find_spec("yaml")
        module = importlib.util.module_from_spec(spec)
        """,
}


@pytest.mark.parametrize("case", CALLERS)
def test_constants_reach_an_import_through_callers(case: str, needs: Needs) -> None:
    assert needs(CALLERS[case]) == {"pyyaml": "direct"}


def test_constants_that_another_file_passes_count(project: Project) -> None:
    files = {
        "main.py": "import lib\nfrom lib import Lazy\nlib.load('yaml')\nLazy('numpy').get()",
        "lib.py": """
            import importlib
            def load(name): return importlib.import_module(name)
            class Lazy:
                def __init__(self, name): self.name = name
                def get(self): return importlib.import_module(self.name)
            """,
    }
    found = analyze(project(files))
    assert roles(found) == {"pyyaml": "direct", "numpy": "direct"}
    assert found.unresolved == ()


def test_calls_of_something_else_of_that_name_do_not_count(project: Project) -> None:
    source = "import importlib, json\ndef load(name): return importlib.import_module(name)\njson.load('yaml')"
    assert roles(analyze(project({"main.py": source}))) == {}


@pytest.mark.parametrize(
    "source",
    [
        "def f(n): return f(n) or g(n)\ndef g(n): return f(n) or __import__(n)\nf(1)",
        "class A:\n    def __init__(self, n): self.n = self.n + n\n    def f(self): A(self.n); __import__(self.n)",
        "for x in x: __import__(x)",
        "a = b\nb = a\n__import__(a)",
        "def f(n): f(n + 'a'); __import__(n)\nf('a')",
    ],
)
def test_calls_in_a_circle_come_to_an_end(project: Project, source: str) -> None:
    analyze(project({"main.py": source}))


GUARDS = {
    "named": ("HAS = find_spec('yaml') is not None\nif HAS: import yaml", {"pyyaml": "optional"}),
    "not_there": ("if find_spec('yaml') is None: y = None\nelse: import yaml", {"pyyaml": "optional"}),
    "negated": ("if not find_spec('yaml'): y = None\nelse: import yaml", {"pyyaml": "optional"}),
    "helper": ("def has(n): return find_spec(n) is not None\nif has('yaml'): import yaml", {"pyyaml": "optional"}),
    "ends_without": ("if find_spec('yaml'): import yaml\nelse: raise SystemExit(1)", {"pyyaml": "direct"}),
    "raises_first": ("if find_spec('yaml') is None: raise ImportError\nimport yaml", {"pyyaml": "direct"}),
    "two_arms": (
        "if find_spec('yaml'): import yaml\nelse: import numpy",
        {"pyyaml": "direct", "numpy": "optional"},
    ),
    "only_other_arm": ("if find_spec('nowhere'): import nowhere\nelse: import yaml", {"pyyaml": "direct"}),
    "expression": ("y = __import__('yaml') if find_spec('yaml') else None", {"pyyaml": "optional"}),
    "loaded": ("import sys\nif 'yaml' in sys.modules: import yaml", {"pyyaml": "optional"}),
    "only_asked": ("print(find_spec('yaml'))", {}),
    "test": ("import pytest\nyaml = pytest.importorskip('yaml')", {"pytest": "direct", "pyyaml": "optional"}),
}


@pytest.mark.parametrize("case", GUARDS)
def test_import_behind_a_question_whether_it_works_is_optional(case: str, needs: Needs) -> None:
    source, expected = GUARDS[case]
    assert needs(f"from importlib.util import find_spec\n{source}") == expected
