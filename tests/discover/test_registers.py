"""Functions that reach a table by a decorator or a call: whoever reads the table reaches them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from envpack import analyze
from tests.discover.conftest import Project, roles

Needs = Callable[..., dict[str, str]]

USED = "def one(): return yaml.dump(1)"
FILLED = {
    "plain": "def add(f):\n    T[f.__name__] = f\n    return f\n@add\n{used}",
    "with_a_name": "def add(n):\n    def inner(f):\n        T[n] = f\n        return f\n    return inner\n"
    "@add('x')\n{used}",
    "list": "def add(f):\n    L.append(f)\n    return f\n@add\n{used}",
    "augmented": "def add(f):\n    global L\n    L += [f]\n    return f\n@add\n{used}",
    "setdefault": "def add(n):\n    return lambda f: T.setdefault(n, f)\n@add('x')\n{used}",
    "update": "def add(f):\n    T.update({{f.__name__: f}})\n    return f\n@add\n{used}",
    "item_method": "def add(n):\n    return lambda f: T.__setitem__(n, f) or f\n@add('x')\n{used}",
    "nested_table": "def add(f):\n    T.setdefault('group', []).append(f)\n    return f\n@add\n{used}",
    "helper": "def put(f): T[f.__name__] = f\ndef add(f):\n    put(f)\n    return f\n@add\n{used}",
    "class": "class add:\n    def __init__(self, n): self.n = n\n    def __call__(self, f):\n        T[self.n] = f\n"
    "        return f\n@add('x')\n{used}",
    "partial": "def put(t, f): t[f.__name__] = f\nadd = functools.partial(put, T)\n@add\n{used}",
    "call": "def add(f):\n    T[f.__name__] = f\n{used}\nadd(one)",
    "call_in_a_loop": "def add(f):\n    T[f.__name__] = f\n{used}\nfor g in (one,): add(g)",
    "class_is_registered": "def add(c):\n    T[c.__name__] = c\n    return c\n@add\nclass One:\n    k = yaml",
}


@pytest.mark.parametrize("case", FILLED)
def test_reader_of_a_table_reaches_what_is_put_into_it(case: str, needs: Needs) -> None:
    filled = FILLED[case].format(used=USED)
    source = f"import functools, numpy, yaml\nT = {{}}\nL = []\n{filled}\ndef f(k): return (T or L)[k]()\n"
    source += "def other(): return numpy.sum(1)\n"
    assert needs(source, "f") == {"pyyaml": "direct"}


def test_who_does_not_read_the_table_reaches_nothing_of_it(needs: Needs) -> None:
    source = f"import yaml, numpy\nT = {{}}\ndef add(f):\n    T[f.__name__] = f\n    return f\n@add\n{USED}\n"
    source += "@add\ndef f(): return numpy.sum(1)\n"
    assert needs(source, "f") == {"numpy": "direct"}


def test_decorator_that_wraps_is_needed(needs: Needs) -> None:
    source = (
        "import yaml\ndef log(f):\n    def inner(*a): return yaml.dump(f(*a))\n    return inner\n@log\ndef f(): pass"
    )
    assert needs(source, "f") == {"pyyaml": "direct"}


ELSEWHERE = {
    "function": ("from plugins import add, run", "@add"),
    "module": ("import plugins\nrun = plugins.run", "@plugins.add"),
    "object": ("from plugins import kept, run", "@kept.add('x')"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_table_of_a_local_module_holds_what_the_script_puts_there(case: str, project: Project) -> None:
    imports, decorator = ELSEWHERE[case]
    main = f"import yaml, numpy\n{imports}\n{decorator}\n{USED}\n"
    main += "def f(): return run('one')\ndef g(): return numpy.sum(1)\n"
    plugins = textwrap.dedent(
        """
        T = {}
        def add(f):
            T[f.__name__] = f
            return f
        class Kept:
            def add(self, name):
                return lambda f: T.setdefault(name, f)
        kept = Kept()
        def run(name): return T[name]()
        """
    )
    script = project({"main.py": main, "plugins.py": plugins})
    found = analyze(script, functions=["f", "g"])
    assert {item.name: item.distributions for item in found.functions} == {"f": ("pyyaml",), "g": ("numpy",)}
    assert roles(found) == {"numpy": "direct", "pyyaml": "direct"}
