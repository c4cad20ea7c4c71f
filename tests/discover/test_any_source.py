"""Laws for every source: what Python can parse is analysed, is never executed, and gives the same answer again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpack import analyze
from envpack.errors import SourceSyntaxError

NAMES = st.sampled_from(["a", "b", "f", "np", "self", "__file__", "print", "T"])
MODULES = st.sampled_from(["numpy", "json", "os.path", "nowhere.deep", "a", "scipy.special"])

EXPRESSIONS = st.recursive(
    st.one_of(NAMES, st.sampled_from(["1", "'numpy'", "None", "...", "sys.version_info", "b''", "f'{a}{b!r:>{f}}'"])),
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("{}.attr".format, NAMES),
        st.builds("({})({}, *{}, k={})".format, inner, inner, inner, inner),
        st.builds("__import__({})".format, inner),
        st.builds("(lambda a, *b, f={}: {})".format, inner, inner),
        st.builds("[{} for a in {} if {}]".format, inner, inner, inner),
        st.builds("{{{}: {} for a, (b, *T) in {}}}".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} < {} <= {})".format, inner, inner, inner),
        st.builds("({} and not {})".format, inner, inner),
        st.builds("{{**{}, {}: {}}}".format, inner, inner, inner),
        st.builds("({})[{}:{}]".format, inner, inner, inner),
        st.builds("(a := {})".format, inner),
        st.builds("({} % {})".format, inner, inner),
    ),
    max_leaves=8,
)
SIMPLE = st.one_of(
    st.builds("{} = {}".format, NAMES, EXPRESSIONS),
    st.builds("a[{}], *T = {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("T += {}".format, EXPRESSIONS),
    st.builds("b: {} = {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("import {}".format, MODULES),
    st.builds("import {} as {}".format, MODULES, NAMES),
    st.builds("from {} import {} as np, b".format, MODULES, NAMES),
    st.builds("from .{} import a".format, MODULES),
    st.builds("from . import {}".format, NAMES),
    st.builds("{}".format, EXPRESSIONS),
    st.builds("T.append({})".format, EXPRESSIONS),
    st.builds("raise {}".format, EXPRESSIONS),
    st.builds("sys.path.insert(0, {})".format, EXPRESSIONS),
    st.sampled_from(["pass", "del a", "import sys", "from numpy import *", "assert a, b", "global T"]),
)


def _indented(lines: list[str]) -> str:
    return "\n".join("    " + line for text in lines for line in text.split("\n"))


def _block(head: str) -> st.SearchStrategy[str]:
    return st.builds(lambda value, body: f"{head.format(value)}\n{_indented(body)}", EXPRESSIONS, BODY)


STATEMENTS: st.SearchStrategy[str] = st.deferred(lambda: st.one_of(SIMPLE, COMPOUND))
BODY = st.lists(STATEMENTS, min_size=1, max_size=3)
COMPOUND = st.one_of(
    *(
        _block(head)
        for head in (
            "if {}:",
            "while {}:",
            "for a, b in {}:",
            "with {} as (a, T):",
            "def f(a, *, b: np = {}, **T):",
            "async def f(a={}):",
            "@np.deco\nclass K({}):",
            "try:\n    import numpy\nexcept (ImportError, {}) as a:",
            "try:\n    import nowhere\nfinally:\n    {}\nif 1:",
            "match {}:\n    case [a, *b]: pass\nif 1:",
        )
    )
)
PROGRAMS = st.lists(STATEMENTS, max_size=6).map("\n".join)


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


# One folder for all examples is meant; generating nested programs is what is slow.
LOOSE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=LOOSE)
@given(PROGRAMS.filter(_is_python))
def test_what_python_can_parse_is_analysed_and_never_executed(tmp_path: Path, source: str) -> None:
    script = tmp_path / "main.py"
    # Executed, it would fail at once.
    script.write_text(f"raise SystemExit('executed')\n{source}\ndef target():\n    return a, b, T, np\n")
    whole = analyze(script)
    assert whole == analyze(script)
    function = analyze(f"{script}:target")
    assert {item.name for item in function.distributions} <= {item.name for item in whole.distributions}


@settings(max_examples=100, deadline=None, suppress_health_check=LOOSE)
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
