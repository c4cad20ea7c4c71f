"""Laws for every source: what Python can parse is analysed, with the same answer again; the rest is refused clearly."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpack import analyze
from envpack.errors import SourceSyntaxError
from tests.discover.programs import Maker, kinds
from tests.fuzzing import times


def is_python(source: str | bytes) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


# One folder for all examples is meant; generating nested programs is what is slow.
LOOSE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=times(40), deadline=None, suppress_health_check=LOOSE)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_what_python_can_parse_is_analysed(tmp_path: Path, random: Random, statements: int) -> None:
    script = tmp_path / "main.py"
    script.write_text(f"{Maker(random).program(statements)}\ndef target():\n    return a, b, T, np\n")
    whole = analyze(script)
    assert whole == analyze(script)
    function = analyze(f"{script}:target")
    assert {item.name for item in function.distributions} <= {item.name for item in whole.distributions}


def test_programs_hold_every_kind_of_node_that_python_has() -> None:
    met = {type(node) for seed in range(150) for node in ast.walk(ast.parse(Maker(Random(seed)).program(8)))}
    sums = (ast.stmt, ast.expr, ast.pattern, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.excepthandler)
    assert {kind.__name__ for base in sums for kind in kinds(base)} - {kind.__name__ for kind in met} == set()


# Expressions with a scope of their own, in each place where one may be.
INNER_SCOPES = (
    "def f() -> (lambda: 1): pass",
    "def f(*a: [q for q in r], **k: (lambda: 1)): pass",
    "@(lambda: 1)\nclass A(*[q for q in r], k=lambda: 1): pass",
    "x = [1 for a[lambda: 1].b in c]",
    "for a[lambda: 1], *b in c: pass",
    "with a as b[lambda: 1]: pass",
    "del a[lambda: 1]",
    "a[lambda: 1]: int = 1",
    "try: pass\nexcept (lambda: 1): pass",
    "match a:\n case b if [q for q in r]: pass",
    "def f[T: (lambda: 1)](): pass",
    "class A[T: [q for q in r], *U]: pass",
    "type X[**T] = [q for q in r]",
    "f'{[q for q in r]:{(lambda: 1)}}'",
)


@pytest.mark.parametrize("source", [source for source in INNER_SCOPES if is_python(source)])
def test_expressions_with_a_scope_may_be_anywhere(tmp_path: Path, source: str) -> None:
    script = tmp_path / "main.py"
    script.write_text(f"import numpy\nr = numpy\n{source}\n")
    assert [item.name for item in analyze(script).distributions] == ["numpy"]


@settings(max_examples=times(100), deadline=None, suppress_health_check=LOOSE)
@given(st.binary(max_size=60))
def test_bytes_are_analysed_or_refused_with_their_place(tmp_path: Path, content: bytes) -> None:
    script = tmp_path / "main.py"
    script.write_bytes(content)
    try:
        analyze(script)
    except SourceSyntaxError as error:
        place = (error.path, error.line >= 1)
    else:
        place = (str(script), True)
    assert place == (str(script), True)


def _deep(text: str, count: int) -> str:
    return text * count


LARGE = {
    "long_sum": "x = " + " + ".join(["'a'"] * 800),
    "deep_attribute": "x = a" + _deep(".b", 800),
    "deep_call": "x = a" + _deep("()", 800),
    "deep_brackets": "x = " + _deep("(", 90) + _deep(")", 90),
    "deep_unary": "x = " + _deep("not ", 500) + "1",
    "doubling_string": "x = 'a'\n" + "x = x + x\n" * 200 + "__import__(x)",
    "many_choices": "x = 'a'\n" + "".join(f"x = '{n}'\n" for n in range(500)) + "__import__(x + x + x + x)",
    "many_assignments": "".join(f"s = s + {n}\n" for n in range(5000)),
    "self_reference": "x = y\ny = x\n__import__(x)",
    "many_functions": "".join(f"def f{n}(): return f{n + 1}()\n" for n in range(3000)),
    "nested_ifs": "".join(" " * n + f"if a{n}:\n" for n in range(90)) + " " * 90 + "import numpy",
}


@pytest.mark.parametrize("case", LARGE)
@pytest.mark.timeout(20)
def test_large_and_deep_sources_neither_crash_nor_hang(case: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(LARGE[case])
    analyze(script)


def test_nesting_that_python_cannot_parse_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("x = " + "(" * 2000 + ")" * 2000)
    with pytest.raises(SourceSyntaxError):
        analyze(script)
