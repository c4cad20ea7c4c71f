"""joblib's own tests of `Parallel`, with our backend in their lists.

    python -m tests.plugs.joblib_suite [--backend envpack|loky] [WORDS FOR PYTEST]

The tests are not part of this project: they are read where joblib is installed, and what stands there for `loky` is
given once more for `envpack`. Rows that say whether something goes wrong (a warning, an error) say no for us: our
processes may be nested, and one `Parallel` call does not end the calls of another.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "test_parallel_here"
OURS, THEIRS = "envpack", "loky"
IMPORT, REGISTER = "from joblib import Parallel", "import envpack_executor.joblib"


def suite() -> str:
    """Return joblib's tests with our backend in their lists."""
    spec = importlib.util.find_spec("joblib")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "test" / "test_parallel.py").read_text())
    tree = ast.fix_missing_locations(_Adder().visit(tree))
    first = 1 if ast.get_docstring(tree) else 0
    tree.body.insert(first, ast.parse(REGISTER).body[0])
    return ast.unparse(tree)


class _Adder(ast.NodeTransformer):
    """Adds our backend to the lists of backends, of which some are written into decorators."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        for decorator in node.decorator_list:
            for found in ast.walk(decorator):
                if isinstance(found, ast.List):
                    _add(found)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """Register the backend in programs, which the tests hold as text."""
        if isinstance(node.value, str) and IMPORT in node.value:
            return ast.Constant(node.value.replace(IMPORT, f"{REGISTER}\n{IMPORT}"))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        if isinstance(node.value, ast.List):
            _add(node.value)
        self.generic_visit(node)
        return node


def _add(found: ast.List) -> None:
    """Add to a list of names, or of rows that begin with names."""
    rows = [row for row in found.elts if isinstance(row, ast.Tuple) and THEIRS in _words(row)]
    if THEIRS in _words(found):
        found.elts.append(ast.Constant(OURS))
    for row in rows:
        values = [OURS if word == THEIRS else False if word is True else word for word in _words(row)]
        found.elts.append(ast.Tuple([ast.Constant(value) for value in values], ast.Load()))


def _words(found: ast.List | ast.Tuple) -> list[object]:
    return [each.value for each in found.elts if isinstance(each, ast.Constant)]


def run(folder: Path, words: list[str], timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    """Write the tests into `folder` and run them there.

    Args:
        folder: an empty one.
        words: for pytest.
        timeout_s: for the whole run, whose output is kept then; None to show it.
    """
    (folder / f"{NAME}.py").write_text(suite())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    thread_unsafe\n    no_cover\n")
    roots = [str(folder), *filter(None, sys.path)]
    command = [sys.executable, "-m", "pytest", f"{NAME}.py", "-p", "no:cacheprovider", "-q", *words]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    output = {} if timeout_s is None else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, cwd=folder, env=environ, timeout=timeout_s, text=True, check=False, **output)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run joblib's own tests of Parallel with our backend in their lists.")
    parser.add_argument("--backend", choices=(OURS, THEIRS), help="only tests that name it")
    options, words = parser.parse_known_args()
    chosen = [] if options.backend is None else ["-k", options.backend]
    with tempfile.TemporaryDirectory(prefix="joblib-suite-") as folder:
        sys.exit(run(Path(folder), [*chosen, *words]).returncode)


if __name__ == "__main__":
    main()
