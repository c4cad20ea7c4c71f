"""What a function needs: what it reaches, and nothing else that stands in the script."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

Needs = Callable[..., dict[str, str]]

HEAD = """
import functools
import numpy as np
import scipy.special as sp
import yaml
import dateutil.parser
import sklearn.metrics as metrics
"""

SUBCLASS = "class K(B):\n    def go(self): return yaml\ndef f(): return [k().go() for k in B.known]"

CASES = {
    "module_level_import": ("def f(x): return np.sum(x)", {"numpy"}),
    "nothing_but_its_own_names": ("def f(np): yaml = 3; return np + yaml", set()),
    "helper": ("def help(x): return yaml.dump(x)\ndef f(x): return help(x)", {"pyyaml"}),
    "helper_of_helper": ("def a(x): return sp.gamma(x)\ndef b(x): return a(x)\ndef f(x): return b(x)", {"scipy"}),
    "mutual_recursion": ("def g(x): return f(np.sum(x))\ndef f(x): return g(x)", {"numpy"}),
    "import_inside": ("def f(x):\n    import yaml as y\n    return y.dump(x)", {"pyyaml"}),
    "default": ("def f(x=np.float64(2)): return x", {"numpy"}),
    "keyword_default": ("def f(*, x=np.float64(2)): return x", {"numpy"}),
    "annotation": ("def f(x: np.ndarray) -> None: return x", {"numpy"}),
    "quoted_annotation": ("def f(x: 'np.ndarray'): return x", set()),
    "decorator": ("def deco(fn):\n    yaml\n    return fn\n@deco\ndef f(x): return x", {"pyyaml"}),
    "lambda": ("f = lambda x: np.sum(x)", {"numpy"}),
    "partial": ("def g(a, b): return sp.gamma(a + b)\nf = functools.partial(g, 1)", {"scipy"}),
    "closure": ("def make():\n    G = np.zeros(3)\n    def f(): return G\n    return f\nf = make()", {"numpy"}),
    "nested": ("def f(x):\n    def g(y):\n        return np.sum(y)\n    return g(x)", {"numpy"}),
    "comprehension": ("def f(x): return [np.sum(v) for v in x if yaml.dump(v)]", {"numpy", "pyyaml"}),
    "comprehension_target_hides": ("def f(x): return [np for np in x]", set()),
    "walrus_in_comprehension": ("def f(x): return [(np := v) for v in x], np", set()),
    "generator": ("def f(x):\n    yield from (np.sum(v) for v in x)", {"numpy"}),
    "async": ("async def f(x):\n    async for v in x:\n        await np.sum(v)", {"numpy"}),
    "class_with_methods": (
        "class K:\n    def a(self): return np.sum(1)\n    def b(self): return yaml\ndef f(): return K()",
        {"numpy", "pyyaml"},
    ),
    "class_base": ("class B:\n    x = np.pi\nclass K(B): pass\ndef f(): return K()", {"numpy"}),
    "class_name_is_not_seen_by_methods": ("class K:\n    np = 1\n    def f(self): return np.sum(1)\nf = K", {"numpy"}),
    "global_value": ("T = np.zeros(3)\ndef f(): return T", {"numpy"}),
    "dispatch_table": (
        "def a(): return sp\ndef b(): return yaml\nT = {1: a, 2: b}\ndef f(k): return T[k]()",
        {"scipy", "pyyaml"},
    ),
    "table_filled_later": ("def a(): return sp\nT = {}\nT['a'] = a\ndef f(k): return T[k]()", {"scipy"}),
    "table_appended": ("def a(): return sp\nT = []\nT.append(a)\ndef f(k): return T[k]()", {"scipy"}),
    "settled_choice": ("FAST = True\nw = np.sum if FAST else yaml.dump\ndef f(x): return w(x)", {"numpy"}),
    "choice_that_is_changed": (
        "FAST = True\nFAST = len([FAST]) > 2\nw = np.sum if FAST else yaml.dump\ndef f(x): return w(x)",
        {"numpy", "pyyaml"},
    ),
    "choice_of_an_argument": ("def f(x, fast=True): return np.sum(x) if fast else yaml.dump(x)", {"numpy", "pyyaml"}),
    "registered_by_decorator": (
        "@functools.singledispatch\ndef f(x): return x\n@f.register(int)\ndef _(x): return np.sum(x)",
        {"numpy"},
    ),
    "global_statement": (
        "M = None\ndef load():\n    global M\n    import yaml\n    M = yaml\ndef f(): return M",
        {"pyyaml"},
    ),
    "subclass_registry": (
        "class B:\n    known = []\n    def __init_subclass__(cls): B.known.append(cls)\n" + SUBCLASS,
        {"pyyaml"},
    ),
    "subclass_of_abstract_base": (
        "import abc\nclass B(metaclass=abc.ABCMeta): pass\nclass K(B):\n    x = yaml\ndef f(): return B()",
        set(),
    ),
    "subclass_of_plain_base": ("class B: pass\nclass K(B):\n    x = yaml\ndef f(): return B()", set()),
    "loop_variable": ("for n in (np, sp): pass\ndef f(): return n", {"numpy", "scipy"}),
    "with_target": ("with np.errstate() as e: pass\ndef f(): return e", {"numpy"}),
    "match": ("def f(x):\n    match x:\n        case np.pi: return 1\n        case [yaml]: return yaml", {"numpy"}),
    "f_string": ("def f(x): return f'{np.sum(x):>{sp.gamma(3)}}'", {"numpy", "scipy"}),
    "augmented_global": ("T = []\nT += [np.pi]\ndef f(): return T", {"numpy"}),
    "exception_handler": ("def f():\n    try: pass\n    except yaml.YAMLError as np: return np", {"pyyaml"}),
    "redefined": ("def g(): return np\ndef g(): return yaml\ndef f(): return g()", {"pyyaml"}),
    "import_name_differs": ("def f(x): return dateutil.parser.parse(x), metrics", {"python-dateutil", "scikit-learn"}),
}


@pytest.mark.parametrize("case", CASES)
def test_function_needs_what_it_reaches(case: str, needs: Needs) -> None:
    source, expected = CASES[case]
    assert set(needs(HEAD + source, "f")) == expected


def test_lazy_annotations_are_not_needed(needs: Needs) -> None:
    source = "from __future__ import annotations\nimport numpy as np\ndef f(x: np.ndarray): return x"
    assert needs(source, "f") == {}


def test_method_needs_its_class(needs: Needs) -> None:
    source = HEAD + "class K:\n    def a(self): return self.b()\n    def b(self): return yaml"
    assert set(needs(source, "K.a")) == {"pyyaml"}


def test_nested_function_needs_what_the_function_around_it_binds(needs: Needs) -> None:
    source = HEAD + "def out():\n    import scipy\n    z = np.zeros(1)\n    def f(): return scipy, z\n    return f"
    assert set(needs(source, "out.f")) == {"scipy", "numpy"}


def test_whole_script_needs_everything_in_it(needs: Needs) -> None:
    assert set(needs(HEAD)) == {"numpy", "scipy", "pyyaml", "python-dateutil", "scikit-learn"}


def test_two_functions_are_answered_apart(project: Callable[[dict[str, str]], object]) -> None:
    from envpack import analyze

    script = project({"main.py": HEAD + "def a(): return np\ndef b(): return yaml"})
    found = analyze(str(script), functions=["a", "b"])
    assert [(item.name, item.distributions) for item in found.functions] == [("a", ("numpy",)), ("b", ("pyyaml",))]
    assert [item.name for item in found.distributions] == ["numpy", "pyyaml"]


def test_our_own_decorators_stay_behind_but_the_set_up_function_counts(needs: Needs) -> None:
    source = HEAD + (
        "from envpack_executor import task\n"
        "from envpack_monitor import monitor\n"
        "def load(p): return {'m': yaml}\n"
        "@monitor\n@task(context=(load, 'x'), category='c')\ndef f(x, m): return np.sum(x)\n"
        "@monitor(category='d')\ndef g(x): return x\n"
    )
    assert set(needs(source, "f")) == {"numpy", "pyyaml"}
    assert needs(source, "g") == {}


def test_our_decorator_on_a_helper_is_needed(needs: Needs) -> None:
    source = "from envpack_monitor import monitor\n@monitor\ndef g(x): return x\ndef f(x): return g(x)"
    assert set(needs(source, "f")) == {"envpack-hpc"}


def test_star_import_gives_the_name_it_holds(needs: Needs) -> None:
    source = "from numpy import *\nfrom yaml import *\ndef f(x): return safe_load(x)\ndef g(x): return len(x)"
    assert "pyyaml" in needs(source, "f")
    assert needs(source, "g") == {}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters_and_aliases_are_followed(needs: Needs) -> None:
    source = HEAD + "type A = np.ndarray\ndef f[T: yaml.Node](x: A) -> T: return x\nclass K[np]:\n    x = np"
    assert set(needs(source, "f")) == {"numpy", "pyyaml"}
    assert needs(source, "K") == {}
